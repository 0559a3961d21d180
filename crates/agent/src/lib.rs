//! The node agent: source -> model -> plan -> kernel, and its local API.
