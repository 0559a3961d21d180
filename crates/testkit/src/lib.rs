//! Test hosts as namespaces, private bpffs and cgroup, backends, object builders.
