//! Commands that are started by other commands, as by a shell that sets limits first.

use std::process::Command;

/// `inner` as the last arguments of `program`, with its environment.
pub fn within(program: &str, arguments: &[&str], inner: &Command) -> Command {
    let mut outer = Command::new(program);
    outer.args(arguments).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// `inner` after `script` has been run by the shell that becomes it.
pub fn after(script: &str, inner: &Command) -> Command {
    within("sh", &["-c", &format!("{script}\nexec \"$@\""), "sh"], inner)
}

/// `inner` in a mount namespace of its own, after `script` has been run in there. Failures of the script end it.
pub fn in_own_mounts(script: &str, inner: &Command) -> Command {
    let script = format!("set -e\n{script}\nexec \"$@\"");
    within("unshare", &["--mount", "--propagation", "private", "sh", "-c", &script, "sh"], inner)
}
