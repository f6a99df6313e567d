//! A peer that has vanished without a word: nothing arrives from it, and no connection breaks.

use flotilla_shard::ShardId;

use crate::alone::{Host, PEER};
use crate::peers::{DIAL_MICROS_MAX, REDIAL_MICROS_MAX, SILENT_MICROS};

#[test]
fn an_attempt_that_comes_to_nothing_is_given_up_for_another_one() {
    let (mut host, conn) = Host::with_peer();
    host.wait(DIAL_MICROS_MAX / 2);
    assert_eq!(host.closed, [], "it may take its time");
    host.wait(DIAL_MICROS_MAX / 2 + REDIAL_MICROS_MAX);
    assert_eq!(host.closed, [conn]);
    assert_eq!(host.dialed.len(), 2);
}

#[test]
fn a_link_on_which_no_answer_comes_is_closed_before_more_is_sent() {
    let (mut host, conn) = Host::with_peer();
    let peer = host.node.peers.map.get_mut(&PEER).expect("it was put there");
    (peer.link, peer.dialing, peer.heard_at) = (Some(conn), None, host.now.time);
    for shard in [ShardId(1), ShardId(2)] {
        host.node.leaders.learn(shard, 99, PEER);
    }
    host.ask("SET key value");
    host.wait(SILENT_MICROS / 2);
    assert!(host.sent.get(&conn).is_some_and(|bytes| *bytes > 0), "it is asked");
    assert_eq!(host.closed, [], "it may answer yet");
    host.wait(SILENT_MICROS);
    assert_eq!(host.closed, [conn]);
}
