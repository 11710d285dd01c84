"""The operators' web page: rendered here, live by server-sent events, of files that are all in this package.

A page is a module with an ``add_routes`` and its templates beside it in ``templates/``; ``site.Desk`` gives it the
visitor, the forms and the headers. See docs/dashboard.md, "Adding a page".
"""
