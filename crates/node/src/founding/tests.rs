//! Stories of foundings, every order for few nodes, and random faults for more.

mod world;

use std::cell::OnceCell;
use std::collections::BTreeSet;

use flotilla_shard::{ClusterId, Layout, NodeId, StorageId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{FoundingMessage, Standing, Verdict};
use crate::link::{KnownDisk, LinkError};
use world::{Step, World, layout};

impl World {
    /// Runs `steps`, each followed by all writes that it asks for.
    fn run(&mut self, steps: &[Step]) {
        for &step in steps {
            self.step(step);
            self.write();
        }
    }

    fn write(&mut self) {
        while let Some(write) =
            self.steps().into_iter().find(|step| matches!(step, Step::Written(_)))
        {
            self.step(write);
        }
    }

    /// Delivers everything, starting and linking nobody.
    fn settle(&mut self) {
        self.write();
        let arrives = |step: &Step| matches!(step, Step::Deliver(..) | Step::Written(_));
        while let Some(step) = self.steps().into_iter().find(arrives) {
            self.step(step);
        }
    }

    fn all_founded(&self) -> bool {
        let record = self.founded.as_ref();
        record.is_some() && self.machines.iter().all(|machine| machine.founded.as_ref() == record)
    }

    fn start_all(nodes: usize) -> Self {
        let mut world = Self::new(nodes);
        (0..nodes).for_each(|at| world.run(&[Step::Start(at)]));
        world
    }

    fn founded(nodes: usize) -> Self {
        let mut world = Self::start_all(nodes);
        world.heal();
        assert!(world.all_founded());
        world
    }
}

#[test]
fn one_node_founds_at_once() {
    let mut world = World::start_all(1);
    assert!(world.all_founded());
    let disk = world.machines[0].disk.clone();
    world.crashes_left = 1;
    world.run(&[Step::Crash(0), Step::Start(0)]);
    assert!(world.all_founded());
    assert_eq!(world.machines[0].disk.as_ref().map(|disk| disk.incarnation), Some(2));
    assert_eq!(
        world.machines[0].disk.as_ref().map(|disk| &disk.proposed),
        disk.as_ref().map(|disk| &disk.proposed)
    );
}

#[test]
fn nothing_is_said_before_it_is_durable() {
    let mut world = World::new(2);
    world.step(Step::Start(0));
    assert_eq!(world.node(0).message(), None);
    world.step(Step::Written(0));
    assert_eq!(world.node(0).message(), Some(FoundingMessage::Blank(layout(2))));
    world.run(&[Step::Start(1), Step::Connect(0, 1)]);
    world.step(Step::Deliver(1, 0));
    world.step(Step::Deliver(1, 0));
    assert!(world.node(0).state.proposed.is_some());
    assert_eq!(world.node(0).message(), Some(FoundingMessage::Blank(layout(2))));
    world.write();
    assert!(matches!(world.node(0).message(), Some(FoundingMessage::Proposed(_))));
}

#[test]
fn a_node_says_for_whom_it_waits() {
    let mut world = World::start_all(3);
    assert_eq!(world.node(0).waiting_for(), [NodeId(2), NodeId(3)]);
    world.run(&[Step::Connect(0, 2)]);
    world.settle();
    assert_eq!(world.node(0).waiting_for(), [NodeId(2)]);
    assert_eq!(world.node(0).record(), None);
    assert_eq!(world.node(0).obstacle(), None);
    world.heal();
    assert!(world.all_founded());
    assert_eq!(world.node(0).waiting_for(), []);
}

#[test]
fn who_has_answered_and_gone_is_waited_for() {
    let mut world = World::start_all(3);
    world.crashes_left = 1;
    world.run(&[Step::Connect(0, 1)]);
    world.settle();
    assert_eq!(world.node(0).waiting_for(), [NodeId(3)]);
    world.run(&[Step::Disconnect(0, 1), Step::Connect(0, 2)]);
    world.settle();
    assert_eq!(world.node(0).waiting_for(), [NodeId(2)]);
    assert_eq!(world.node(0).state.proposed, None, "its disk may be another by now");
}

#[test]
fn a_link_left_behind_by_a_wiped_disk_is_not_heard() {
    let mut world = World::start_all(2);
    world.run(&[Step::Connect(0, 1)]);
    let old = world.hello(1, 0);
    let mut new = old.clone();
    new.storage_id.0[0] ^= 1;
    let node = world.machines[0].running.as_mut().expect("it runs");
    assert_eq!(node.on_hello(&old), Ok(Standing::Peer));
    assert_eq!(node.on_hello(&new), Ok(Standing::Peer));
    node.on_message(&old, FoundingMessage::Blank(layout(2)));
    assert_eq!(node.waiting_for(), [NodeId(2)]);
    node.on_message(&new, FoundingMessage::Blank(layout(2)));
    assert_eq!(node.waiting_for(), []);
    let record = node.state.proposed.clone().expect("both are there");
    assert_eq!(record.storage_id(NodeId(2)), Some(new.storage_id));
}

#[test]
fn a_blank_node_that_comes_late_joins_by_its_disk() {
    let mut world = World::founded(3);
    world.crashes_left = 3;
    (0..3).for_each(|at| world.step(Step::Crash(at)));
    world.lose_proposal(2);
    world.run(&[Step::Start(0), Step::Start(2)]);
    assert_eq!(world.node(2).record(), None);
    world.run(&[Step::Connect(0, 2)]);
    world.settle();
    assert_eq!(world.machines[2].founded, world.founded);
    world.heal();
    assert!(world.all_founded());
}

#[test]
fn founded_proposed_and_blank_meet() {
    // Nodes 1 and 2 have each other's and node 3's proposal; node 3 hears of nothing.
    let mut world = World::start_all(3);
    world.run(&[Step::Connect(0, 1), Step::Connect(0, 2), Step::Connect(1, 2)]);
    for _ in 0..2 {
        for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
            world.run(&[Step::Deliver(from, to)]);
        }
    }
    world.run(&[Step::Deliver(1, 0), Step::Deliver(2, 0)]);
    assert!(world.machines[0].founded.is_some());
    assert!(world.machines[1].founded.is_none());
    // Node 3 crashes and node 2 learns from node 1 alone, then node 3 from node 2.
    world.crashes_left = 2;
    world.run(&[Step::Crash(2)]);
    world.settle();
    assert_eq!(world.machines[1].founded, world.machines[0].founded);
    world.run(&[Step::Crash(0), Step::Start(2), Step::Connect(1, 2)]);
    world.settle();
    assert_eq!(world.machines[2].founded, world.founded);
}

#[test]
fn a_wiped_node_is_another_disk_and_is_told_by_whom() {
    let mut world = World::founded(3);
    world.wipe(1);
    world.run(&[Step::Start(1), Step::Connect(0, 1), Step::Deliver(1, 0)]);
    world.settle();
    let reason = world.machines[1].renewed.clone().expect("it becomes another one");
    let cluster = world.founded.as_ref().expect("founded").cluster_id();
    let (old, new) = ("02".repeat(16), "04".repeat(16));
    assert_eq!(
        reason,
        format!(
            "node 1 (127.0.0.1:5001) knows node 2 (127.0.0.1:5002) as a member of cluster \
             {cluster} with the disk {old}, but this data folder is {new}: it is new, or was \
             emptied or replaced. What it promised is lost, so its replicas are dead; new ones are \
             asked for in their place"
        )
    );
    assert_eq!(
        world.machines[0].warnings,
        [format!(
            "node 2 (127.0.0.1:5002) has come with the disk {new}, which is not the one the \
             cluster knows: its data folder was emptied or replaced. It is told so, and comes back \
             as another disk"
        )]
    );
    world.heal();
    assert!(world.all_founded());
    let disk = world.machines[1].disk.as_ref().expect("it has booted");
    assert_eq!((disk.disk, disk.storage_id), (1, StorageId([4; 16])));
    assert_eq!(disk.replicas.values().copied().collect::<Vec<_>>(), [None, None], "all are dead");
    let known = world.node(0).disk_of(NodeId(2));
    assert_eq!(known, Some((1, StorageId([4; 16]))), "its peers know it now");
    // The disk that was replaced is a stranger from then on.
    let mut older = world.hello(1, 0);
    (older.disk, older.storage_id) = (0, StorageId([2; 16]));
    let node = world.machines[0].running.as_mut().expect("it runs");
    assert_eq!(node.on_hello(&older), Ok(Standing::Stranger));
    assert!(!node.admits(&older));
}

#[test]
fn what_peers_know_of_a_disk_judges_it() {
    let world = World::founded(2);
    let node = world.node(0);
    let own = StorageId([1; 16]);
    let known = |number, id, alive| KnownDisk { number, storage_id: id, alive, seen: None };
    let other = StorageId([9; 16]);
    assert_eq!(node.judge(&known(0, own, false)), Verdict::Fine);
    assert_eq!(node.judge(&known(0, other, false)), Verdict::Renew(0), "two with one number");
    assert_eq!(node.judge(&known(3, other, false)), Verdict::Renew(3), "it was replaced");
    assert_eq!(node.judge(&known(3, other, true)), Verdict::Superseded, "by one that is alive");
}

#[test]
fn two_wiped_nodes_found_no_second_cluster() {
    let mut world = World::founded(3);
    world.crashes_left = 1;
    world.run(&[Step::Crash(0)]);
    world.wipe(1);
    world.wipe(2);
    world.run(&[Step::Start(1), Step::Start(2), Step::Connect(1, 2)]);
    world.settle();
    assert_eq!(world.node(1).waiting_for(), [NodeId(1)]);
    assert_eq!(world.node(2).waiting_for(), [NodeId(1)]);
    world.heal();
    assert!(world.all_founded());
    let disks = (1..3).map(|at| world.machines[at].disk.as_ref().map(|disk| disk.disk));
    assert_eq!(disks.collect::<Vec<_>>(), [Some(1), Some(1)], "as other disks of the first one");
}

#[test]
fn a_disk_wiped_before_the_founding_is_named_and_the_advice_works() {
    let mut world = World::start_all(3);
    world.run(&[Step::Connect(0, 1), Step::Connect(0, 2)]);
    (0..2).for_each(|_| world.run(&[Step::Deliver(1, 0), Step::Deliver(2, 0)]));
    assert!(world.node(0).state.proposed.is_some());
    world.wipe(2);
    world.heal();
    assert_eq!(world.founded, None);
    let obstacle = "the cluster can't be founded: the data folder of node 3 (127.0.0.1:5003) was \
                    emptied or replaced after node 1 (127.0.0.1:5001) had agreed to found it with \
                    the old one. Either start node 3 (127.0.0.1:5003) with the old data folder, \
                    or, as nothing is stored in the cluster yet, stop node 1 (127.0.0.1:5001), \
                    empty their data folders and start them again";
    for at in 0..3 {
        assert_eq!(world.node(at).obstacle().as_deref(), Some(obstacle));
    }
    world.wipe(0);
    world.heal();
    assert!(world.all_founded());
}

#[test]
fn different_lists_found_nothing_and_are_compared() {
    let lists = |text: &[&[u32]]| {
        let list = |ports: &&[u32]| ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Layout::from_lists(&text.iter().map(list).collect::<Vec<Vec<String>>>()).expect("valid")
    };
    let warned = |one: Layout, other: Layout| {
        let mut world = World::new(2);
        world.layouts = vec![one, other];
        world.heal();
        assert_eq!(world.founded, None);
        assert_eq!(world.node(0).waiting_for().len(), world.layouts[0].nodes.len() - 1);
        assert_eq!(world.machines[0].warnings.len(), 1, "said once");
        world.machines[0].warnings[0].clone()
    };
    let begin = "127.0.0.1:5002 was started with another list: ";
    let end = ". The cluster can be founded only when all nodes are given the same";
    let expect = |one: &[&[u32]], other: &[&[u32]], difference: &str| {
        assert_eq!(warned(lists(one), lists(other)), format!("{begin}{difference}{end}"));
    };
    expect(
        &[&[5001, 5002, 5003]],
        &[&[5001, 5002, 5004, 5005]],
        "its list lacks 127.0.0.1:5003, this node's list lacks 127.0.0.1:5004 and 127.0.0.1:5005",
    );
    expect(
        &[&[5001, 5002], &[5003]],
        &[&[5001, 5002, 5003]],
        "they have the same nodes, but the shards are [1 2] [3] in this node's list and [1 2 3] in \
         its",
    );
    expect(
        &[&[5001, 5002, 5003]],
        &[&[5003, 5002, 5001]],
        "they have the same nodes in another order",
    );
}

#[test]
fn a_founded_node_only_compares_its_list() {
    let mut world = World::founded(2);
    world.layouts[0] = layout(3);
    world.crashes_left = 1;
    world.run(&[Step::Crash(0), Step::Start(0)]);
    assert!(world.machines[0].founded.is_some());
    let warning = &world.machines[0].warnings[0];
    assert!(warning.contains("the cluster's list lacks 127.0.0.1:5003"), "{warning}");
    assert!(warning.ends_with("To add a node use `flotilla add-node`"), "{warning}");
    world.heal();
    assert!(world.all_founded());
}

#[test]
fn a_new_node_is_sent_to_add_node() {
    let mut world = World::founded(2);
    world.machines.push(world::Machine::default());
    world.layouts.push(layout(3));
    world.run(&[Step::Start(2), Step::Connect(0, 2)]);
    world.settle();
    let warning = &world.machines[2].warnings[0];
    assert!(warning.contains("127.0.0.1:5003 is not in it"), "{warning}");
    assert!(warning.contains("flotilla add-node"), "{warning}");
    assert_eq!(world.node(2).record(), None);
    assert!(world.machines[0].warnings[0].contains("started with another list"));
}

#[test]
fn a_wiped_node_with_another_list_is_recognised_by_its_address() {
    let mut world = World::founded(2);
    world.wipe(1);
    world.layouts[1] = layout(3);
    world.run(&[Step::Start(1), Step::Connect(0, 1)]);
    world.settle();
    world.heal();
    assert_eq!(world.machines[1].founded, world.founded);
    assert_eq!(world.machines[1].disk.as_ref().map(|disk| disk.disk), Some(1));
}

#[test]
fn who_is_at_the_other_end_is_checked() {
    let mut world = World::founded(3);
    let other = World::founded(2);
    let hello = |world: &mut World, at: usize, to: usize| {
        world.crashes_left = 1;
        world.step(Step::Crash(at));
        world.run(&[Step::Start(at), Step::Connect(at.min(to), at.max(to))]);
        world.hello(at, to)
    };
    let good = hello(&mut world, 1, 0);
    let node = world.machines[0].running.as_mut().expect("it runs");
    assert_eq!(node.on_hello(&good), Ok(Standing::Peer));
    assert!(node.admits(&good));

    let mut own = good.clone();
    own.storage_id = node.state.storage_id;
    assert!(node.on_hello(&own).expect_err("refused").contains("own disk"));
    let mut wrong = good.clone();
    wrong.to = NodeId(3);
    assert!(node.on_hello(&wrong).expect_err("refused").contains("arrived at node 1"));
    let mut foreign = good.clone();
    foreign.cluster = other.founded.as_ref().map(flotilla_shard::FoundingRecord::cluster_id);
    assert!(node.on_hello(&foreign).expect_err("refused").contains("belongs to cluster"));
    assert!(!node.admits(&foreign));
    let mut wiped = good.clone();
    wiped.storage_id.0[0] ^= 1;
    assert_eq!(node.on_hello(&wiped), Ok(Standing::Stranger));
    assert!(!node.admits(&wiped));
}

/// Each packet of a link asks, and the record of many shards is long.
#[test]
fn who_may_come_in_is_asked_without_hashing_the_record_again() {
    let mut world = World::founded(2);
    world.crashes_left = 1;
    world.step(Step::Crash(1));
    world.run(&[Step::Start(1), Step::Connect(0, 1)]);
    let hello = world.hello(1, 0);
    let node = world.machines[0].running.as_mut().expect("it runs");
    assert!(node.admits(&hello));
    // What counts now is the name that was computed then.
    node.cluster = OnceCell::from(ClusterId([7; 16]));
    assert!(!node.admits(&hello));
}

#[test]
fn messages_of_every_phase_are_checked_when_read() {
    let world = World::founded(2);
    let record = world.founded.clone().expect("founded");
    let messages = [
        FoundingMessage::Blank(layout(2)),
        FoundingMessage::Proposed(record.clone()),
        FoundingMessage::Founded(record),
    ];
    for message in messages {
        let mut body = Vec::new();
        message.encode(&mut body);
        assert_eq!(FoundingMessage::decode(&body), Ok(message));
        for cut in 0..body.len() {
            assert!(FoundingMessage::decode(&body[..cut]).is_err(), "cut at {cut}");
        }
        body[0] = 4;
        assert_eq!(FoundingMessage::decode(&body), Err(LinkError::Value { field: "phase" }));
    }
    let mut empty = layout(2);
    empty.nodes.clear();
    let body = [&[1], empty.canonical_bytes().as_slice()].concat();
    assert!(FoundingMessage::decode(&body).is_err());
}

/// Visits every state that can be reached, and heals each one without a next step.
fn explore(world: World) -> usize {
    let mut seen = BTreeSet::new();
    let mut open = vec![world];
    while let Some(world) = open.pop() {
        let steps = world.steps();
        if steps.is_empty() {
            assert!(world.all_founded(), "whoever can do no more is founded");
        }
        for step in steps {
            let mut next = world.clone();
            next.step(step);
            if seen.insert(next.key()) {
                open.push(next);
            }
        }
    }
    seen.len()
}

#[test]
fn every_order_of_two_nodes_with_crashes() {
    let mut world = World::new(2);
    world.crashes_left = 2;
    let states = explore(world);
    assert!(states > 1_000, "{states}");
}

#[test]
fn every_order_of_three_nodes() {
    let states = explore(World::start_all(3));
    assert!(states > 1_000, "{states}");
}

fn random_run(nodes: usize, crashes: u32, wipes: u32, choices: &[u16]) -> World {
    let mut world = World::new(nodes);
    (world.crashes_left, world.wipes_left) = (crashes, wipes);
    for &choice in choices {
        let steps = world.steps();
        let Some(&step) = steps.get(choice as usize % steps.len().max(1)) else { break };
        world.step(step);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn crashes_never_prevent_a_founding(choices in vec(any::<u16>(), 0..100)) {
        let mut world = random_run(3, 6, 0, &choices);
        world.heal();
        prop_assert!(world.all_founded());
    }

    #[test]
    fn wiped_disks_never_split_and_the_advice_works(choices in vec(any::<u16>(), 0..120)) {
        let mut world = random_run(3, 4, 2, &choices);
        world.heal();
        if world.founded.is_none() {
            let proposed: Vec<usize> = (0..3)
                .filter(|&at| world.node(at).state.proposed.is_some())
                .collect();
            for at in 0..3 {
                let text = world.node(at).obstacle();
                prop_assert!(text.is_some(), "nobody founded and nobody says why");
            }
            for at in proposed {
                world.wipe(at);
            }
            world.heal();
            prop_assert!(world.all_founded());
        }
        let record = world.founded.clone().expect("founded");
        for machine in &world.machines {
            prop_assert_eq!(machine.founded.as_ref(), Some(&record));
            prop_assert_eq!(&machine.fatal, &None);
        }
    }
}
