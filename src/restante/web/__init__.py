"""The HTTP interface beside collecting: publishing, settling, looking, administering, and its own description."""
