//! Three replicas on three threads, with channels for links and memory for disks: the smallest
//! driver with real time in it. `cargo run -p flotilla-raft --example three_nodes`
#![allow(clippy::disallowed_methods, reason = "a driver has a clock and threads")]
#![allow(clippy::print_stdout, reason = "it is an example")]

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use flotilla_raft::{
    Config, Configuration, Effect, EntryKind, Input, Message, Note, Payload, Raft, Recovered,
    ReplicaId, RequestId, SnapshotMeta, Time, Write,
};

const GREETINGS: u64 = 5;

/// What a node keeps through a crash. This one forgets; a real one appends to a file and syncs it.
#[derive(Default)]
struct Disk {
    writes: Vec<Write>,
}

struct Node {
    raft: Raft,
    began: Instant,
    links: Vec<Sender<Message>>,
    disk: Disk,
    applied: Vec<String>,
}

impl Node {
    fn new(id: ReplicaId, links: Vec<Sender<Message>>) -> Self {
        let configuration = Configuration::of_voters([1, 2, 3].map(ReplicaId));
        let snapshot = SnapshotMeta { configuration, ..SnapshotMeta::default() };
        let recovered = Recovered { snapshot, ..Recovered::default() };
        let raft = Raft::new(Config::new(id, 42), recovered, Time(0));
        Self { raft, began: Instant::now(), links, disk: Disk::default(), applied: Vec::new() }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_micros()).expect("it does not run that long"))
    }

    /// One input, and all that follows from it.
    fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.raft.step(self.now(), input, &mut effects);
            for effect in effects {
                inputs.extend(self.carry_out(effect));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Vec<Input> {
        match effect {
            Effect::Write(write) => {
                let seq = write.seq;
                self.disk.writes.push(write);
                vec![Input::Written(seq)]
            }
            Effect::Send(message) => {
                // A link that is gone loses its messages; Raft can live with that.
                let _ = self.links[message.to.0 as usize - 1].send(message);
                Vec::new()
            }
            Effect::Apply { entries } => {
                let last = entries[entries.len() - 1].index;
                for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Normal) {
                    let text = String::from_utf8_lossy(entry.payload.bytes()).into_owned();
                    println!("{} applies {}: {text}", self.raft.id(), entry.index);
                    self.applied.push(text);
                }
                vec![Input::Applied(last)]
            }
            Effect::Note(Note::BecameLeader { term }) => {
                println!("{} leads term {term}", self.raft.id());
                let propose = |id| Input::Propose {
                    id: RequestId(id),
                    payload: Payload::new(format!("greeting {id}").into_bytes()),
                };
                (1..=GREETINGS).map(propose).collect()
            }
            // Nothing is compacted, so nobody needs a snapshot; what else there is, is news only.
            _ => Vec::new(),
        }
    }

    fn run(mut self, inbox: Receiver<Message>) -> Vec<String> {
        while self.applied.len() < GREETINGS as usize || self.began.elapsed().as_secs() < 2 {
            let wait = self.raft.deadline().since(self.now());
            match inbox.recv_timeout(Duration::from_micros(wait)) {
                Ok(message) => self.step(Input::Message(message)),
                Err(RecvTimeoutError::Timeout) => self.step(Input::Wake),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.applied
    }
}

fn main() {
    let (links, inboxes): (Vec<_>, Vec<_>) = (0..3).map(|_| channel()).unzip();
    let threads = (1..).map(ReplicaId).zip(inboxes).map(|(id, inbox)| {
        let links = links.clone();
        thread::spawn(move || Node::new(id, links).run(inbox))
    });
    let threads: Vec<_> = threads.collect();
    let applied = threads.into_iter().map(|thread| thread.join().expect("no node fails"));
    let applied: Vec<Vec<String>> = applied.collect();
    assert!(applied.iter().all(|log| *log == applied[0]), "all apply the same");
    println!("all three applied the same {} greetings", applied[0].len());
}
