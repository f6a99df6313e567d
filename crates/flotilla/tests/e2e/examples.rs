//! The examples, run as they are against a cluster.

use crate::support::Up;

#[path = "../../examples/rate_limiter.rs"]
#[allow(dead_code, reason = "the example's own main is not called here")]
mod rate_limiter;
#[path = "../../examples/session_store.rs"]
#[allow(dead_code, reason = "the example's own main is not called here")]
mod session_store;

#[test]
fn the_examples_do_what_they_say() {
    let up = Up::start(3);
    let nodes: Vec<String> = (1..=3).map(|node| format!("127.0.0.1:{}", up.port(node))).collect();

    let mut said = Vec::new();
    session_store::run(&nodes, &mut said).expect("the nodes answer");
    let said = String::from_utf8(said).expect("text");
    assert_eq!(said, "opened:  Some(\"alice\")\nclosed:  None\nexpired: None\n");

    // A node that is not there is passed over.
    let nowhere = [vec!["127.0.0.1:1".to_owned()], nodes.clone()].concat();
    session_store::run(&nowhere, &mut Vec::new()).expect("the other nodes answer");

    let mut said = Vec::new();
    rate_limiter::run(&nodes, &mut said).expect("the nodes answer");
    let said = String::from_utf8(said).expect("text");
    assert!(said.ends_with("5 of 8 have passed\n"), "{said}");
}
