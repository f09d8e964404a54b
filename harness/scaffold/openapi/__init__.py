"""An OpenAPI or Swagger document, from anywhere, as the operations that it describes.

`harness.scaffold` comes in; it imports neither that nor the kinds of dependencies.
"""
