//! Kubernetes objects: the API server defaults, validation, conversion to the model.
