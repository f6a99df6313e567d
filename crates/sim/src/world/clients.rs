//! Clients: they dial, ask, wait, read replies, and note down what they saw.

use flotilla_node::Face;
use flotilla_resp::{Value, parse_value};

use super::{Happening, World};
use crate::client::{Ask, Client, Link, Pending};
use crate::config::{Mutant, Workload};
use crate::fault::Fault;
use crate::history::{Answer, Call, OperationId, Outcome};
use crate::marks::Mark;
use crate::network::{Party, Piece};
use crate::queue::Micros;
use crate::scenario::SECOND;
use crate::workload::{Command, Shape};

/// A client whose dial failed tries again after about this time.
const REDIAL: Micros = 60_000;
/// A client that got an error rests for about this time.
const ERROR_REST: Micros = 30_000;
/// A client that is behind the pace of its run rests so many times less.
const HURRY: Micros = 8;
/// A client that only checks rests for about this time.
const STRICT_REST: Micros = 2_000;
/// A client that does not wait for answers asks for more after this time at most.
const EAGER_WITHIN: Micros = 10_000;
/// And has no more than so many requests without an answer.
const EAGER_MAX: usize = 40;
/// An impatient client waits this long.
const PATIENCE: Micros = 300_000;

impl World {
    /// A client begins; gives its position.
    pub(crate) fn add_client(&mut self, client: Client) -> usize {
        self.clients.push(client);
        let client = self.clients.len() - 1;
        let delay = self.random.below(100_000);
        self.after(delay, Happening::Step { client });
        client
    }

    /// A client goes on: it dials, or asks.
    pub(crate) fn client_step(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.is_done() || !client.waiting.is_empty() || client.half_closed {
            return;
        }
        if client.improvises && client.script.is_empty() && self.waits_for_transfer() {
            let rest = self.config.workload.rest;
            return self.after(rest, Happening::Step { client: at });
        }
        let client = &mut self.clients[at];
        match client.link {
            Link::Dialing => {}
            Link::None => {
                client.link = Link::Dialing;
                client.dials += 1;
                let (dials, home, face) = (client.dials, client.home, client.face);
                self.dial(Party::Client { at }, dials, home, face);
            }
            Link::Up(id) => self.ask(at, id),
        }
    }

    fn ask(&mut self, at: usize, id: u64) {
        let workload = &self.config.workload;
        let (pipeline, impatient) = (workload.pipeline_max, workload.impatient_permille);
        let eager = workload.eager_percent;
        let mut count = if self.random.chance(60) { 1 } else { self.random.between(1, pipeline) };
        if self.clients[at].strict {
            count = 1;
        }
        let mut bytes = Vec::new();
        for _ in 0..count {
            let ask = match self.clients[at].script.pop_front() {
                Some(ask) => ask,
                None if self.clients[at].improvises => {
                    Ask { command: self.commands.next(&mut self.random), again: None }
                }
                None => break,
            };
            self.ask_one(at, ask, &mut bytes);
        }
        if !bytes.is_empty() {
            self.trace.mix_bytes(&bytes);
            self.send(id, 0, bytes);
        }
        // Who has nothing more to ask may say so, and listens on.
        let last = self.clients[at].strict && self.clients[at].script.is_empty();
        let ends = last || self.random.below(1_000) < impatient / 2;
        if self.clients[at].waiting.is_empty() {
            self.after(1_000, Happening::Step { client: at });
        } else if ends && self.random.chance(50) {
            self.send_piece(id, 0, Piece::Half);
            self.clients[at].half_closed = true;
        } else if eager > 0 && self.clients[at].improvises && self.random.chance(eager) {
            let delay = self.random.heavy_tailed(EAGER_WITHIN / 10).min(EAGER_WITHIN);
            self.after(delay, Happening::AskOn { client: at, id });
        } else if !self.clients[at].strict && self.random.below(1_000) < impatient {
            let (dials, sent) = (self.clients[at].dials, self.now);
            let delay = self.random.below(PATIENCE);
            self.after(delay, Happening::Patience { client: at, dials, sent });
        }
    }

    /// A client asks for more before it has the answers to what it has asked.
    pub(crate) fn ask_on(&mut self, at: usize, id: u64) {
        let client = &self.clients[at];
        let waits = (1..EAGER_MAX).contains(&client.waiting.len());
        let goes_on = client.improvises && !client.half_closed && !client.moves;
        if client.link == Link::Up(id) && waits && goes_on {
            self.ask(at, id);
        }
    }

    pub(super) fn ask_one(&mut self, at: usize, ask: Ask, bytes: &mut Vec<u8>) {
        let Ask { command, again } = ask;
        self.counters.commands += 1;
        let operations = again.unwrap_or_else(|| self.invoke(at, &command));
        self.tell(|| format!("client {at} asks {}", words(&command)));
        if self.is_mutant(Mutant::LosesWrites)
            && command.shape == Shape::Ok
            && self.random.chance(3)
        {
            for id in operations {
                self.settle(id, Outcome::Known(Answer::Done));
            }
            return;
        }
        if self.is_mutant(Mutant::HastyExpiry)
            && let Some(lives_ms) = command.lives_ms
        {
            let key = command.words[1].clone();
            let hasty = (lives_ms / 2).max(1).to_string().into_bytes();
            let words = [b"SET".to_vec(), key, command.words[2].clone(), b"PX".to_vec(), hasty];
            Command { words: words.to_vec(), ..command.clone() }.encode(bytes);
        } else {
            command.encode(bytes);
        }
        let sent = self.now;
        self.clients[at].waiting.push_back(Pending { command, operations, sent });
    }

    /// Notes down that a command is sent. One connection's operations share a number.
    fn invoke(&mut self, at: usize, command: &Command) -> Vec<OperationId> {
        let connection = (at as u64) << 32 | self.clients[at].dials;
        let mut ids = Vec::new();
        for (key, call) in &command.parts {
            ids.push(self.history.invoke(key, call.clone(), self.now, connection));
            if let (Some(lives_ms), Call::Set(value)) = (command.lives_ms, call) {
                self.expect_expiry(key, value, lives_ms);
            }
        }
        ids
    }

    fn settle(&mut self, id: OperationId, outcome: Outcome) {
        match &outcome {
            Outcome::Known(_) => {
                self.counters.completed += 1;
                let read = self.history.operation(id).call.is_read();
                self.counters.reads += u64::from(read);
            }
            Outcome::Unknown => self.counters.unknown += 1,
            Outcome::Refused => self.counters.refused += 1,
        }
        self.commands.settled(self.history.key(id));
        self.history.settle(id, outcome, self.now);
    }

    /// Bytes of replies.
    pub(crate) fn client_reads(&mut self, at: usize, id: u64, bytes: &[u8]) {
        if self.clients[at].link != Link::Up(id) {
            return;
        }
        self.clients[at].unread.extend_from_slice(bytes);
        while self.clients[at].link == Link::Up(id) {
            match parse_value(&self.clients[at].unread) {
                Ok(None) => return,
                Ok(Some((reply, length))) => {
                    self.clients[at].unread.drain(..length);
                    let reply = self.spoiled_reply(at, reply);
                    self.on_reply(at, &reply);
                }
                Err(error) => {
                    return self.fail(format!("client {at} can't read its replies: {error}"));
                }
            }
        }
    }

    /// What some mutants make of a reply.
    fn spoiled_reply(&mut self, at: usize, mut reply: Value) -> Value {
        let waiting = &mut self.clients[at].waiting;
        match self.config.mutant {
            Some(Mutant::SwapsReplies) if waiting.len() > 1 && self.random.chance(5) => {
                // The reply to one is taken for that to the next of the same shape.
                let alike = waiting[0].command.shape == waiting[1].command.shape;
                if alike && waiting[0].command.parts.len() == waiting[1].command.parts.len() {
                    waiting.swap(0, 1);
                }
            }
            Some(Mutant::TornWrites) if self.random.chance(5) => {
                let group = waiting.front().is_some_and(|one| one.command.shape == Shape::Group);
                if let (true, Value::Array(values)) = (group, &mut reply)
                    && let Some(last) = values.last_mut()
                {
                    *last = Value::Bulk(b"old".to_vec());
                }
            }
            _ => {}
        }
        reply
    }

    fn on_reply(&mut self, at: usize, reply: &Value) {
        self.tell(|| format!("client {at} reads {reply:?}"));
        let Some(pending) = self.clients[at].waiting.pop_front() else {
            return self.fail(format!("client {at} got {reply:?} without asking"));
        };
        let mut rest = self.random.heavy_tailed(self.usual_rest(at));
        if let Some(error) = reply.as_error() {
            rest += self.random.between(ERROR_REST / 2, ERROR_REST);
            self.on_error(at, &pending, error);
        } else {
            match pending.command.shape.answers(reply, &pending.command) {
                Ok(answers) => {
                    let grouped = matches!(pending.command.shape, Shape::Group);
                    self.counters.groups_checked += u64::from(grouped);
                    self.on_answers(at, &pending, answers);
                }
                Err(wrong) => {
                    let asked = words(&pending.command);
                    self.fail(format!("client {at} asked {asked}: {wrong}"));
                }
            }
        }
        if !self.clients[at].waiting.is_empty() {
            return;
        }
        if std::mem::take(&mut self.clients[at].moves) {
            self.hang_up(at);
        } else {
            self.after(rest, Happening::Step { client: at });
        }
    }

    /// How long a client usually rests, at this moment of the run.
    fn usual_rest(&self, at: usize) -> Micros {
        let Workload { rest, pace, .. } = self.config.workload;
        let behind = self.counters.completed * SECOND < pace * (self.now - self.began);
        match (self.clients[at].strict, behind) {
            (true, _) => STRICT_REST,
            (false, true) => rest / HURRY,
            (false, false) => rest,
        }
    }

    fn on_answers(&mut self, at: usize, pending: &Pending, answers: Vec<Answer>) {
        let keys = pending.command.parts.iter().map(|(key, _)| key.clone());
        for ((id, key), mut answer) in pending.operations.iter().zip(keys).zip(answers) {
            self.note_expiry(*id, &key, &answer);
            if self.is_mutant(Mutant::UndeadKeys)
                && key.starts_with('x')
                && let Answer::Value(value) = &mut answer
            {
                let seen = self.clients[at].seen.get(&key).cloned().flatten();
                *value = value.take().or(seen);
                self.clients[at].seen.insert(key.clone(), value.clone());
            }
            if self.is_mutant(Mutant::StaleReads)
                && let Answer::Value(value) = &mut answer
            {
                let seen = self.clients[at].seen.insert(key, value.clone());
                if let Some(seen) = seen.filter(|_| self.random.chance(10)) {
                    *value = seen;
                }
            }
            self.settle(*id, Outcome::Known(answer));
        }
    }

    /// An error says that nothing was done, or that nobody knows; everything else is wrong.
    fn on_error(&mut self, at: usize, pending: &Pending, error: &str) {
        let asked = words(&pending.command);
        let code = error.split(' ').next().unwrap_or_default();
        if self.clients[at].strict {
            // What was not applied is tried again, as clients do, as long as the run lasts.
            if !matches!(code, "CLUSTERDOWN" | "LOADING") {
                return self.fail(format!("all is well, but {asked} got {error}"));
            }
            let (command, again) = (pending.command.clone(), Some(pending.operations.clone()));
            return self.clients[at].script.push_front(Ask { command, again });
        }
        // A request is held for so long, by the node's clock, before it is given up.
        let held = self.now - pending.sent;
        let hold = self.config.node.hold_ms * 1_000;
        let patience = hold * 1_000_000 / (1_000_000 + self.config.drift_ppm + 1) - 1_000;
        let cluster = self.clients[at].face == Face::Cluster;
        let allowed = match code {
            "LOADING" => true,
            "MOVED" => cluster,
            // Of several shards one may have refused at once.
            "UNCERTAIN" if pending.operations.len() > 1 => true,
            "CLUSTERDOWN" | "UNCERTAIN" => held >= patience,
            "MISCONF" => self.config.plan.iter().any(|planned| planned.fault == Fault::NoSpace),
            "CROSSSLOT" => cluster && pending.operations.len() > 1,
            _ => false,
        };
        if !allowed {
            return self.fail(format!("client {at} asked {asked}, after {held} µs: {error}"));
        }
        self.counters.uncertain += u64::from(code == "UNCERTAIN");
        self.counters.moved += u64::from(code == "MOVED");
        let mark = match code {
            "UNCERTAIN" => Some(Mark::Uncertain),
            "CLUSTERDOWN" => Some(Mark::ClusterDown),
            "LOADING" => Some(Mark::Loading),
            "MISCONF" => Some(Mark::NoRoom),
            "MOVED" => Some(Mark::Moved),
            _ => None,
        };
        if let Some(mark) = mark {
            self.counters.marks.reach(mark);
        }
        // Also of several shards none has done its part, or the answer is another one.
        let unknown = code == "UNCERTAIN";
        for id in &pending.operations {
            let outcome = if unknown { Outcome::Unknown } else { Outcome::Refused };
            self.settle(*id, outcome);
        }
        if unknown {
            self.lose_keys(&pending.command);
        }
        if code == "MOVED" {
            match error.rsplit(' ').next().and_then(|to| self.machine_at(to)) {
                Some((to, Face::Cluster)) => {
                    self.clients[at].home = to;
                    self.clients[at].moves = true;
                }
                _ => self.fail(format!("client {at} was sent to nowhere: {error}")),
            }
        }
    }

    fn lose_keys(&mut self, command: &Command) {
        for (key, call) in &command.parts {
            if !call.is_read() {
                self.commands.lost(key);
            }
        }
    }

    /// The answer to a client's dial.
    pub(crate) fn client_connected(&mut self, at: usize, dials: u64, id: Option<u64>) {
        let client = &mut self.clients[at];
        let wanted = client.link == Link::Dialing && client.dials == dials;
        match id {
            Some(id) if wanted => {
                client.link = Link::Up(id);
                self.client_step(at);
            }
            Some(id) => {
                self.send_piece(id, 0, Piece::End);
                self.network.leave(id, 0);
            }
            None if wanted => self.try_elsewhere(at),
            None => {}
        }
    }

    /// The other side has closed the connection.
    pub(crate) fn client_loses(&mut self, at: usize, id: u64) {
        if self.clients[at].link == Link::Up(id) {
            self.tell(|| format!("client {at} loses its connection"));
            let all_read = self.clients[at].half_closed && self.clients[at].waiting.is_empty();
            if all_read {
                self.counters.marks.reach(Mark::HalfClosed);
            } else if self.clients[at].strict {
                return self.fail(format!("all is well, but client {at} lost its connection"));
            }
            self.give_up_waiting(at);
            self.try_elsewhere(at);
        }
    }

    pub(crate) fn patience(&mut self, at: usize, dials: u64, sent: Micros) {
        let client = &self.clients[at];
        let waits = client.waiting.front().is_some_and(|pending| pending.sent == sent);
        if client.dials == dials && waits {
            self.counters.walked_away += 1;
            self.tell(|| format!("client {at} walks away"));
            self.hang_up(at);
        }
    }

    /// A client closes its connection and will dial again.
    fn hang_up(&mut self, at: usize) {
        if let Link::Up(id) = self.clients[at].link {
            // The end of what it sends is all that the other side sees, until it answers.
            self.send_piece(id, 0, Piece::Half);
            self.network.leave(id, 0);
        }
        self.give_up_waiting(at);
        self.clients[at].link = Link::None;
        self.after(1_000, Happening::Step { client: at });
    }

    fn give_up_waiting(&mut self, at: usize) {
        self.clients[at].unread.clear();
        self.clients[at].moves = false;
        self.clients[at].half_closed = false;
        for pending in std::mem::take(&mut self.clients[at].waiting) {
            self.lose_keys(&pending.command);
            let reads = pending.command.parts.iter().all(|(_, call)| call.is_read());
            if self.is_mutant(Mutant::RepeatsRequests) && !reads {
                let again = Some(pending.operations);
                self.clients[at].script.push_back(Ask { command: pending.command, again });
                continue;
            }
            for id in pending.operations {
                self.settle(id, Outcome::Unknown);
            }
        }
    }

    fn try_elsewhere(&mut self, at: usize) {
        self.clients[at].link = Link::None;
        let elsewhere = self.random.position(self.machines.len());
        // Who is there to ask a certain node asks that one.
        if !self.clients[at].strict {
            self.clients[at].home = elsewhere;
        }
        let delay = self.random.between(REDIAL / 2, REDIAL * 3 / 2);
        self.after(delay, Happening::Step { client: at });
    }
}

fn words(command: &Command) -> String {
    let text = |word: &Vec<u8>| word.escape_ascii().to_string();
    let mut line: Vec<String> = command.words.iter().map(text).collect();
    for word in &mut line {
        word.truncate(40);
    }
    line.join(" ")
}
