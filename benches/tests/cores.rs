//! Many cores: what all CPUs run at once costs each no more than one alone (docs/performance.md).
#![forbid(unsafe_code)]

use std::process::Command;

#[test]
fn the_programs_cost_no_more_where_all_cpus_run_them() {
    // A process of its own: it takes CPUs, and goes before all others there.
    let output = Command::new(env!("CARGO_BIN_EXE_balancing-bench")).arg("cores").output().unwrap();
    let (table, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{table}");
    assert!(output.status.success(), "{table}{why}");
    // As many lines as there are comparisons: nothing passes by measuring nothing.
    let rows = table.lines().filter(|line| line.contains("hot VIP") || line.contains("no service"));
    assert_eq!(rows.count(), 7, "{table}");
}
