//! The ratios of the page as a drawing: a line for each row, a mark for each peer, with its
//! interval, on a scale of powers of two around "as fast as the other".

use std::fmt::Write as _;

use super::measure::Measurement;
use super::page::ratio;
use super::peers::Kind;
use super::points::Group;

const WIDTH: f64 = 860.0;
/// Where the scale begins: before it stand the names of the rows.
const LEFT: f64 = 400.0;
const RIGHT: f64 = 30.0;
const HEAD: f64 = 84.0;
const ROW: f64 = 24.0;
const FOOT: f64 = 20.0;
/// Ratios beyond these, as powers of two, are drawn at the end.
const POWER_MAX: i32 = 6;

/// The drawing; rows that are no ratio are left out.
pub(super) fn figure(all: &[Measurement]) -> String {
    let is_ratio = |one: &&Measurement| one.point.group != Group::LeaderKilled;
    let all: Vec<&Measurement> = all.iter().filter(is_ratio).collect();
    let points: Vec<&[&Measurement]> = all.chunk_by(|a, b| a.point == b.point).collect();
    let height = HEAD + ROW * points.len() as f64 + FOOT;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>Flotilla beside others</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, (14.0, 24.0), "font-size=\"16\" font-weight=\"bold\"", "Flotilla ÷ the other");
    let what = "operations per second, more is better; open loop: p99, less is better";
    text(&mut out, (14.0, 44.0), "fill=\"#555555\"", what);
    for (at, kind) in Kind::ALL.into_iter().enumerate() {
        let x = LEFT + 200.0 * at as f64;
        mark(&mut out, (x, 20.0), kind);
        text(&mut out, (x + 12.0, 24.0), "", kind.title());
    }
    scale(&mut out, height - FOOT);
    for (at, point) in points.iter().enumerate() {
        let y = HEAD + ROW * (at as f64 + 0.5);
        draw(&mut out, y, point);
    }
    out.push_str("</svg>\n");
    out
}

fn scale(out: &mut String, bottom: f64) {
    for power in (-POWER_MAX..=POWER_MAX).step_by(2) {
        let x = across(2_f64.powi(power));
        let colour = if power == 0 { "#000000" } else { "#dddddd" };
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{HEAD}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"{colour}\"/>"
        );
        let label = match power {
            0.. => format!("{}", 1 << power),
            _ => format!("1/{}", 1 << -power),
        };
        text(out, (x, HEAD - 8.0), "text-anchor=\"middle\"", &label);
    }
}

/// A row: the marks of all peers on one line.
fn draw(out: &mut String, y: f64, point: &[&Measurement]) {
    let group = point[0].point.group;
    let title = &point[0].point.title;
    text(out, (LEFT - 14.0, y + 4.0), "text-anchor=\"end\"", &format!("{}: {title}", group.name()));
    for one in point {
        if let Some((kind, [low, median, high])) = one.peer.zip(ratio(group, &one.ours)) {
            let _ = writeln!(
                out,
                "<line x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"{}\" \
                 stroke-width=\"3\"/>",
                across(low),
                across(high),
                colour(kind)
            );
            mark(out, (across(median), y), kind);
        }
    }
}

fn mark(out: &mut String, (x, y): (f64, f64), kind: Kind) {
    let colour = colour(kind);
    let _ = match kind {
        Kind::Redis => {
            writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{colour}\"/>")
        }
        Kind::Etcd => writeln!(
            out,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\" fill=\"{colour}\"/>",
            x - 4.5,
            y - 4.5
        ),
    };
}

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Redis => "#c1121f",
        Kind::Etcd => "#1d4ed8",
    }
}

/// Where a ratio stands, from left to right.
fn across(ratio: f64) -> f64 {
    let end = f64::from(POWER_MAX);
    let power = ratio.log2().clamp(-end, end);
    LEFT + (power + end) / (2.0 * end) * (WIDTH - LEFT - RIGHT)
}

fn text(out: &mut String, (x, y): (f64, f64), style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench_vs::page::tests::measured;

    #[test]
    fn equal_is_in_the_middle_and_faster_to_the_right() {
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        assert!((across(1.0) - middle).abs() < 1e-9);
        assert!(across(2.0) > middle && across(0.5) < middle);
        assert!((across(1e9) - (WIDTH - RIGHT)).abs() < 1e-9);
    }

    #[test]
    fn every_ratio_is_a_mark() {
        let all = [measured(Group::Closed), measured(Group::LeaderKilled)].concat();
        let svg = figure(&all);
        // One of each stands in the legend.
        assert_eq!((svg.matches("<circle ").count(), svg.matches("<rect ").count()), (2, 1 + 2));
        assert!(svg.contains("closed: SET, 16 connections") && !svg.contains("NaN"));
        assert!(figure(&[]).ends_with("</svg>\n"));
    }
}
