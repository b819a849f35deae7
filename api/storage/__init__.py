"""PostgreSQL and object storage: all SQL and all S3 calls of the service, shared by the API and the worker.

Repository functions take the session and never commit: the edge (a request, a task) decides what one transaction is.
"""
