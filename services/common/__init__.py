"""The chassis: settings, errors, interceptors, server, logging. Knows no service."""
