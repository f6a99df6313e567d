//! What an operator is told about the founding, in words: which node, and what to do.

use std::collections::BTreeMap;

use flotilla_shard::{ClusterId, FoundingRecord, Layout, NodeId, StorageId};

use crate::link::Hello;

/// A disk that is not the one the cluster knows was found under this node's address.
pub(super) fn wiped(
    record: &FoundingRecord,
    me: NodeId,
    own: StorageId,
    witness: NodeId,
) -> String {
    let known = record.storage_id(me).unwrap_or_default();
    format!(
        "{} knows {} as a member of cluster {} with the disk {known}, but this data folder is \
         {own}: it is new, or was emptied or replaced. What it promised is lost, so its replicas \
         are dead; new ones are asked for in their place",
        name(&record.layout, witness),
        name(&record.layout, me),
        record.cluster_id(),
    )
}

/// This disk was of a cluster, and nobody has told of which.
pub(super) fn forgot(layout: &Layout, me: NodeId) -> String {
    let others = layout.node_ids().filter(|&node| node != me);
    let others: Vec<String> = others.map(|node| name(layout, node)).collect();
    let ask = if others.is_empty() {
        "There is no other node that could tell".to_string()
    } else {
        format!("Start {}, which can tell", others.join(" or "))
    };
    format!(
        "the log in this data folder is damaged where it says what node this is, and nothing of it \
         can be used. {ask}. To begin a new cluster without what was stored here, empty the folder"
    )
}

/// A peer has come with another disk than before.
pub(super) fn newer_disk(layout: &Layout, hello: &Hello) -> String {
    format!(
        "{} has another disk now, {}: the one before is not heard any more",
        name(layout, hello.from),
        hello.storage_id,
    )
}

/// The cluster numbers this node otherwise.
pub(super) fn renumbered(record: &FoundingRecord, me: NodeId) -> String {
    format!(
        "in cluster {} this is {}: start it with the list the cluster was founded with, {}",
        record.cluster_id(),
        name(&record.layout, me),
        list(record.layout.nodes.iter().cloned()),
    )
}

/// The cluster was founded with this disk, but this disk has agreed to something else.
pub(super) fn other_promise(record: &FoundingRecord, witness: NodeId) -> String {
    format!(
        "{} is in cluster {}, which was founded with this disk, but this disk has agreed to \
         another founding: an older image of it was put back. Start the node with the disk as it \
         was last",
        name(&record.layout, witness),
        record.cluster_id(),
    )
}

/// The address is no member of the cluster that was met.
pub(super) fn not_a_member(record: &FoundingRecord, address: &str) -> String {
    format!(
        "cluster {} is founded already and {address} is not in it; it has {}. A new node joins \
         with `flotilla add-node`, not by another list",
        record.cluster_id(),
        list(record.layout.nodes.iter().cloned()),
    )
}

/// What was asked for at the start is not what counts.
pub(super) fn other_arguments(counts: &Layout, asked: &Layout) -> String {
    format!(
        "the list this node was started with is not the one the cluster is founded with, which \
         counts: {}. To add a node use `flotilla add-node`",
        difference(counts, asked, "the cluster's", "this start's"),
    )
}

/// A node was started with another list; nothing can be founded with it.
pub(super) fn other_list(ours: &Layout, theirs: &Layout, hello: &Hello) -> String {
    format!(
        "{} was started with another list: {}. The cluster can be founded only when all nodes are \
         given the same",
        theirs.address(hello.from).unwrap_or("a node"),
        difference(ours, theirs, "this node's", "its"),
    )
}

/// Somebody who is not one of the cluster's nodes said hello to a founded node.
pub(super) fn stranger(layout: &Layout, hello: &Hello) -> String {
    if hello.layout_digest != layout.digest() {
        return "a node that was started with another list was told which cluster this is; to add a \
                node use `flotilla add-node`"
            .to_string();
    }
    format!(
        "{} has come with the disk {}, which is not the one the cluster knows: its data folder was \
         emptied or replaced. It is told so, and comes back as another disk",
        name(layout, hello.from),
        hello.storage_id,
    )
}

/// A member of another cluster.
pub(super) fn other_cluster(ours: ClusterId, theirs: ClusterId, hello: &Hello) -> String {
    format!("node {} belongs to cluster {theirs}, this one to {ours}: refused", hello.from)
}

/// This very disk at the other end.
pub(super) fn own_disk(layout: &Layout, hello: &Hello) -> String {
    format!(
        "{} has come with this node's own disk: its data folder is a copy of this one, or the node \
         has dialled itself",
        name(layout, hello.from),
    )
}

/// The other end took this node for another one.
pub(super) fn wrong_number(me: NodeId, hello: &Hello) -> String {
    format!(
        "a link from node {} to node {} has arrived at node {me}: an address leads to the wrong \
         node",
        hello.from, hello.to,
    )
}

/// Two nodes have one disk.
pub(super) fn twins(layout: &Layout, (one, other): (NodeId, NodeId)) -> String {
    format!(
        "the cluster can't be founded: {} and {} have the same disk, as one data folder is a copy \
         of the other. Stop one of the two, empty its data folder and start it again",
        name(layout, one),
        name(layout, other),
    )
}

/// Every node is there, none is founded, and what was agreed to can't be fulfilled. A proposal
/// names every disk, so emptying the folder of one that proposed spoils all proposals: all go.
pub(super) fn obstacle(
    layout: &Layout,
    ids: &[StorageId],
    proposals: &BTreeMap<NodeId, &FoundingRecord>,
) -> String {
    let replaced: Vec<String> = layout
        .node_ids()
        .zip(ids)
        .filter(|&(node, &id)| proposals.values().any(|other| other.storage_id(node) != Some(id)))
        .map(|(node, _)| name(layout, node))
        .collect();
    let agreed = list(proposals.keys().map(|&node| name(layout, node)));
    let empty = format!("stop {agreed}, empty their data folders and start them again");
    if replaced.is_empty() {
        return format!(
            "the cluster can't be founded: {agreed} have agreed to different foundings. Nothing is \
             stored in the cluster yet: {empty}"
        );
    }
    let replaced = list(replaced.into_iter());
    format!(
        "the cluster can't be founded: the data folder of {replaced} was emptied or replaced after \
         {agreed} had agreed to found it with the old one. Either start {replaced} with the old \
         data folder, or, as nothing is stored in the cluster yet, {empty}"
    )
}

/// How two lists differ, in a few words.
fn difference(one: &Layout, other: &Layout, ours: &str, theirs: &str) -> String {
    let lacks = |from: &Layout, of: &Layout| {
        let missing = of.nodes.iter().filter(|address| from.node_at(address).is_none());
        missing.cloned().collect::<Vec<String>>()
    };
    let mut parts = Vec::new();
    for (which, missing) in [(theirs, lacks(other, one)), (ours, lacks(one, other))] {
        if !missing.is_empty() {
            parts.push(format!("{which} list lacks {}", list(missing.into_iter())));
        }
    }
    if parts.is_empty() && one.nodes != other.nodes {
        parts.push("they have the same nodes in another order".to_string());
    }
    if parts.is_empty() {
        parts.push(format!(
            "they have the same nodes, but the shards are {} in {ours} list and {} in {theirs}",
            shards(one),
            shards(other),
        ));
    }
    parts.join(", ")
}

/// The nodes of every shard, `[1 2 3] [2 3 4]`.
fn shards(layout: &Layout) -> String {
    let shard = |nodes: &Vec<NodeId>| {
        let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
        format!("[{}]", nodes.join(" "))
    };
    layout.shards.iter().map(shard).collect::<Vec<String>>().join(" ")
}

fn name(layout: &Layout, node: NodeId) -> String {
    format!("node {node} ({})", layout.address(node).unwrap_or("not in the list"))
}

/// `a`, `a and b`, `a, b and c`.
fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => items.concat(),
    }
}
