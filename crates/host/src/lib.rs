//! What the machine has: cgroup2 mount, namespaces, processes.
