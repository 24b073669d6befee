// The API as Swagger UI shows it; its own example starts with an inline script, which is not allowed.
window.SwaggerUIBundle({ url: "/openapi.json", dom_id: "#api", deepLinking: true });
