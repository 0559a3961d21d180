//! From the model to desired tables, and from desired tables to ordered batches of map writes.
