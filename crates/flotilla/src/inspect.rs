//! `flotilla inspect`: what is on a node's disk. It only reads.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use flotilla_storage::{
    HeaderView, RecoveredLane, SegmentView, SnapshotReader, examine, inspect_segment,
};
use serde_json::{Value, json};

use crate::arguments::{Inspect, Thing};
use crate::read_only::ReadOnly;
use crate::status::table;

/// Runs the verb. It exits with 1 if something is damaged or lost.
pub(crate) fn run(asked: &Inspect) -> anyhow::Result<ExitCode> {
    let path = asked.path.as_path();
    let (report, is_whole) = match asked.what {
        Thing::Log => log(path)?,
        Thing::Snapshot => snapshot(path)?,
        Thing::Dir => directory(path)?,
    };
    let mut out = std::io::stdout().lock();
    if asked.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report.json)?)?;
    } else {
        write!(out, "{}", report.text)?;
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same for programs and for people.
struct Report {
    json: Value,
    text: String,
}

/// The directory of a file, and the file's name in it.
fn split(path: &Path) -> anyhow::Result<(ReadOnly, String)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} is no file", path.display()))?.to_owned();
    std::fs::metadata(path).with_context(|| format!("can't look at {}", path.display()))?;
    let directory = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    Ok((ReadOnly::new(&directory), name))
}

fn log(path: &Path) -> anyhow::Result<(Report, bool)> {
    let (mut disk, name) = split(path)?;
    let view = inspect_segment(&mut disk, &name).map_err(|error| anyhow::anyhow!("{error}"))?;
    let is_whole = view.frames.iter().all(|frame| frame.flaw.is_none())
        && view.unreadable_blocks == 0
        && !matches!(view.header, HeaderView::Unreadable);
    Ok((Report { json: segment_json(&name, &view), text: segment_text(&name, &view) }, is_whole))
}

fn header_text(header: &HeaderView) -> String {
    match header {
        HeaderView::Blank => "blank, never used".to_owned(),
        HeaderView::Unreadable => "no readable header".to_owned(),
        HeaderView::Version(version) => format!("format version {version}, not known here"),
        HeaderView::Segment { number, first_sequence, previous, continues, .. } => format!(
            "segment {number}, first frame {first_sequence}, behind frame {continues} of segment \
             {previous}"
        ),
    }
}

fn segment_json(name: &str, view: &SegmentView) -> Value {
    let header = match view.header {
        HeaderView::Blank => json!("blank"),
        HeaderView::Unreadable => json!("unreadable"),
        HeaderView::Version(version) => json!({ "version": version }),
        HeaderView::Segment { number, bytes, first_sequence, previous, continues } => json!({
            "number": number,
            "bytes": bytes,
            "first_sequence": first_sequence,
            "previous": previous,
            "continues": continues,
        }),
    };
    let frames: Vec<Value> =
        view.frames
            .iter()
            .map(|frame| {
                let records: Vec<Value> = frame.records.iter().map(|(shard, what)| {
            json!({ "shard": shard.map(|shard| shard.0), "what": what })
        }).collect();
                json!({
                    "offset": frame.offset,
                    "sequence": frame.sequence,
                    "last_sequence": frame.last_sequence,
                    "flaw": frame.flaw,
                    "records": records,
                })
            })
            .collect();
    json!({
        "file": name,
        "bytes": view.bytes,
        "header": header,
        "end_offset": view.end_offset,
        "unreadable_blocks": view.unreadable_blocks,
        "frames": frames,
    })
}

fn segment_text(name: &str, view: &SegmentView) -> String {
    let mut frames = table(["offset", "frame", "holds"]);
    for frame in &view.frames {
        let sequence = if frame.last_sequence == frame.sequence {
            frame.sequence.to_string()
        } else {
            format!("{} to {}", frame.sequence, frame.last_sequence)
        };
        let mut holds: Vec<String> = frame.flaw.iter().map(|flaw| format!("! {flaw}")).collect();
        holds.extend(frame.records.iter().map(|(shard, what)| match shard {
            Some(shard) => format!("shard {shard}: {what}"),
            None => what.clone(),
        }));
        if holds.is_empty() {
            holds.push("nothing: it attests the frames before".to_owned());
        }
        frames.add_row([frame.offset.to_string(), sequence, holds.join("\n")]);
    }
    format!(
        "{name}: {} bytes, {}, ends at {}\n{frames}\n",
        view.bytes,
        header_text(&view.header),
        view.end_offset
    )
}

fn snapshot(path: &Path) -> anyhow::Result<(Report, bool)> {
    let (mut disk, name) = split(path)?;
    let opened = SnapshotReader::open(&mut disk, &name);
    let (meta, reader) = opened.map_err(|error| anyhow::anyhow!("{error}"))?;
    let verified = reader.verify(&mut disk).map_err(|error| error.to_string());
    let file = reader.file();
    let voters: Vec<u64> = meta.configuration.voters.iter().map(|replica| replica.0).collect();
    let flaw = verified.as_ref().err();
    let bases: Vec<String> = file.names().skip(1).collect();
    let json = json!({
        "file": name,
        "bytes": file.bytes,
        "shard": file.shard.0,
        "index": meta.index.0,
        "term": meta.term.0,
        "voters": voters,
        "chunks": reader.chunks(),
        "bases": bases,
        "digest": format!("{:016x}", file.digest),
        "flaw": flaw,
    });
    let state = flaw.map_or_else(|| "whole".to_owned(), |flaw| format!("! {flaw}"));
    let lines = bases.iter().flat_map(|base| ["some chunks lie in ", base.as_str(), "\n"]);
    let on: String = lines.collect();
    let text = format!(
        "{name}: {} bytes, shard {}, index {} of term {}, voters {voters:?}, {} chunks, digest \
         {:016x}\n{on}{state}\n",
        file.bytes,
        file.shard,
        meta.index,
        meta.term,
        reader.chunks(),
        file.digest
    );
    Ok((Report { json, text }, flaw.is_none()))
}

fn directory(path: &Path) -> anyhow::Result<(Report, bool)> {
    std::fs::read_dir(path).with_context(|| format!("can't read {}", path.display()))?;
    let mut disk = ReadOnly::new(path);
    let lane = examine(&mut disk).map_err(|error| anyhow::anyhow!("{error}"))?;
    let whole = lane.check_whole();
    let report = Report { json: lane_json(path, &lane), text: lane_text(path, &lane) };
    Ok((report, whole.is_ok()))
}

fn lane_json(path: &Path, lane: &RecoveredLane) -> Value {
    let kept = lane.shards.iter().map(|shard| (shard, false));
    let shards: Vec<Value> = kept
        .chain(lane.lost.iter().map(|shard| (shard, true)))
        .map(|((shard, found), lost)| {
            let damaged: Vec<u64> = found.damaged.iter().map(|index| index.0).collect();
            json!({
                "shard": shard.0,
                "lost": lost,
                "term": found.hard_state.term.0,
                "vote": found.hard_state.voted_for.map(|replica| replica.0),
                "snapshot_index": found.snapshot.index.0,
                "snapshot": lane.snapshots.get(shard).map(|file| &file.name),
                "snapshot_flaw": lane.lost_snapshots.get(shard).map(ToString::to_string),
                "last_index": found.snapshot.index.0 + found.entries.len() as u64,
                "damaged": damaged,
            })
        })
        .collect();
    let damage: Vec<Value> = lane
        .report
        .damage
        .iter()
        .map(|frame| {
            json!({
                "file": frame.file,
                "offset": frame.offset,
                "sequence": frame.sequence,
                "detail": frame.detail,
            })
        })
        .collect();
    json!({
        "directory": path.display().to_string(),
        "fresh": lane.fresh,
        "incomplete": lane.incomplete,
        "segments": lane.report.segments,
        "frames": lane.report.frames,
        "durable_through": lane.durable_through,
        "node_state_bytes": lane.node_state.as_ref().map(Vec::len),
        "cut": lane.report.cut.as_ref().map(|cut| json!({
            "file": cut.file,
            "offset": cut.offset,
            "sequence": cut.sequence,
            "reason": cut.reason,
        })),
        "damage": damage,
        "shards": shards,
    })
}

fn lane_text(path: &Path, lane: &RecoveredLane) -> String {
    if lane.fresh {
        return format!("{}: no log\n", path.display());
    }
    let mut shards = table(["shard", "term", "vote", "snapshot", "last entry", "damaged", "state"]);
    let kept = lane.shards.iter().map(|shard| (shard, "kept"));
    for ((shard, found), state) in kept.chain(lane.lost.iter().map(|shard| (shard, "LOST"))) {
        let flaw = lane.lost_snapshots.get(shard);
        shards.add_row([
            shard.to_string(),
            found.hard_state.term.to_string(),
            found.hard_state.voted_for.map_or_else(|| "-".to_owned(), |vote| vote.to_string()),
            format!("{}{}", found.snapshot.index, if flaw.is_some() { " LOST" } else { "" }),
            (found.snapshot.index.0 + found.entries.len() as u64).to_string(),
            found.damaged.len().to_string(),
            state.to_owned(),
        ]);
    }
    let mut text = format!(
        "{}: {} segments, {} frames, durable through {}\n{shards}\n",
        path.display(),
        lane.report.segments,
        lane.report.frames,
        lane.durable_through
    );
    if lane.incomplete {
        text.push_str("! shards and a newer state of the node may have been lost\n");
    }
    for frame in &lane.report.damage {
        text.extend(["! ", &frame.to_string(), "\n"]);
    }
    for error in lane.lost_snapshots.values() {
        text.extend(["! ", &error.to_string(), "\n"]);
    }
    if let Some(cut) = &lane.report.cut {
        let torn = format!("{} at offset {} ({})", cut.file, cut.offset, cut.reason);
        text.extend(["a torn end, never acknowledged: ", &torn, "\n"]);
    }
    text
}
