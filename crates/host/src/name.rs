//! What this machine is called.

use rustix::system::uname;

/// The host name.
pub fn hostname() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

/// The name that a kubelet registers this machine's Node under, unless told another one.
pub fn node_name() -> String {
    node_name_of(&hostname())
}

fn node_name_of(hostname: &str) -> String {
    // Names of objects are lower case; the kubelet does the same.
    hostname.trim().to_lowercase()
}

/// Release of the running kernel: to be shown, never to be compared.
pub fn kernel_release() -> String {
    uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_lower_case() {
        assert_eq!(node_name_of(" Node-1.Example "), "node-1.example");
        assert!(!hostname().is_empty());
        assert!(kernel_release().contains('.'));
    }
}
