// Shows the specification. It is served by the same server, so what is tried out here goes there too.
"use strict";

SwaggerUIBundle({
  url: "/openapi.yaml",
  dom_id: "#interface",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  // The key stays in the page: a shared computer must not remember it.
  persistAuthorization: false,
  // No third party is asked whether the specification is valid.
  validatorUrl: null,
});
