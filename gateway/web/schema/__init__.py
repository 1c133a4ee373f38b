"""The shapes of answers, for the OpenAPI document. Renderers make plain objects; tests hold them against these."""
