"""The store's words: names, base models, adapters, versions, uploads. Knows no SQL, no gRPC, no files."""
