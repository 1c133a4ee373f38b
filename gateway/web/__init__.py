"""The only folder that imports Litestar."""
