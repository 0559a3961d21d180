//! Attaching.
use balancing_tests::machine::Machine;
#[test]
fn loads() {
    let machine = Machine::new("loads").unwrap();
    assert_eq!(machine.maps().unwrap().slots_used().unwrap(), 0);
}
