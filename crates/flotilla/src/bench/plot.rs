//! Latencies by percentile as an SVG, written by hand: few lines of text, no dependency.
//!
//! From left to right stand the shares of the operations, a power of ten further from all of them
//! at each step, since it is the few slow ones that differ; the height is the latency, also by
//! powers of ten. A panel for each workload, a line for each system.

use std::fmt::Write as _;
use std::time::Duration;

use super::histogram::Histogram;
use super::report::micros;

const PANEL_WIDTH: f64 = 520.0;
const PANEL_HEIGHT: f64 = 330.0;
/// Around the area of the lines, within a panel.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 48.0;
/// Above the panels, for the title and the legend.
const HEAD: f64 = 66.0;
/// How the lines are told apart, also without colours.
const LINES: [(&str, &str); 4] =
    [("#0b6e4f", ""), ("#c1121f", "7 4"), ("#1d4ed8", "2 3"), ("#7c3aed", "9 3 2 3")];
/// So many nines are shown at most, however many operations there were.
const NINES_MAX: f64 = 6.0;

/// A line.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) system: &'a str,
    pub(crate) histogram: &'a Histogram,
}

/// The lines of one workload.
#[derive(Debug)]
pub(crate) struct Panel<'a> {
    pub(crate) title: &'a str,
    pub(crate) lines: Vec<Line<'a>>,
}

/// The whole drawing; all panels have the same systems in the same order, and something to show.
pub(crate) fn figure(title: &str, panels: &[Panel<'_>]) -> String {
    let (width, height) = (PANEL_WIDTH * panels.len().max(1) as f64, HEAD + PANEL_HEIGHT);
    let title = escaped(title);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, (14.0, 22.0), "font-size=\"16\" font-weight=\"bold\"", &title);
    for (at, line) in panels.iter().take(1).flat_map(|panel| &panel.lines).enumerate() {
        let x = 14.0 + 240.0 * at as f64;
        let points = [(x, 44.0), (x + 30.0, 44.0)];
        polyline(&mut out, &points, at);
        text(&mut out, (x + 38.0, 48.0), "", &escaped(line.system));
    }
    let frame = Frame::around(panels);
    for (at, panel) in panels.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate({} {HEAD})\">", PANEL_WIDTH * at as f64);
        frame.draw(panel, &mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// What all panels show the same part of.
struct Frame {
    /// How many nines of the share there are.
    nines: f64,
    /// The lowest and the highest latency, as powers of ten of a nanosecond.
    low: f64,
    high: f64,
}

impl Frame {
    fn around(panels: &[Panel<'_>]) -> Self {
        let all = || panels.iter().flat_map(|panel| &panel.lines).map(|line| line.histogram);
        let most = all().map(Histogram::count).max().unwrap_or_default().max(10);
        let least = all().map(|one| one.quantile(0.0)).min().unwrap_or_default();
        let longest = all().map(Histogram::max).max().unwrap_or_default();
        let low = height(least).floor();
        let high = height(longest).ceil().max(low + 1.0);
        Self { nines: (most as f64).log10().ceil().min(NINES_MAX), low, high }
    }

    fn draw(&self, panel: &Panel<'_>, out: &mut String) {
        text(out, (LEFT, TOP - 10.0), "font-weight=\"bold\"", &escaped(panel.title));
        self.grid(out);
        for (at, line) in panel.lines.iter().enumerate() {
            polyline(out, &self.points(line.histogram), at);
        }
        let below = (f64::midpoint(LEFT, PANEL_WIDTH - RIGHT), PANEL_HEIGHT - 10.0);
        text(out, below, "text-anchor=\"middle\"", "share of the operations");
        let (x, y) = (14.0, f64::midpoint(TOP, PANEL_HEIGHT - BOTTOM));
        let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 {x} {y})\"");
        text(out, (x, y), &turned, "did not take longer than");
    }

    fn grid(&self, out: &mut String) {
        let (right, bottom) = (PANEL_WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM);
        let mut line = |from: (f64, f64), to: (f64, f64)| {
            let _ = writeln!(
                out,
                "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>",
                from.0, from.1, to.0, to.1
            );
        };
        let powers = || (self.low as i32..=self.high as i32).map(f64::from);
        let nines = || (0..=self.nines as i32).map(f64::from);
        for power in powers() {
            line((LEFT, self.y(power)), (right, self.y(power)));
        }
        for nine in nines() {
            line((self.x(nine), TOP), (self.x(nine), bottom));
        }
        for power in powers() {
            let label = micros(Some(10_f64.powf(power - 3.0))).replace(".00", "");
            text(out, (LEFT - 8.0, self.y(power) + 4.0), "text-anchor=\"end\"", &label);
        }
        for nine in nines() {
            let label = match nine as usize {
                0 => "0 %".to_owned(),
                1 => "90 %".to_owned(),
                2 => "99 %".to_owned(),
                more => format!("99.{} %", "9".repeat(more - 2)),
            };
            text(out, (self.x(nine), bottom + 18.0), "text-anchor=\"middle\"", &label);
        }
    }

    /// A step for each latency that was seen: so many operations more took so long.
    fn points(&self, histogram: &Histogram) -> Vec<(f64, f64)> {
        let total = histogram.count() as f64;
        let mut points = Vec::new();
        let mut from = 0.0;
        for (latency, seen) in histogram.steps() {
            let y = self.y(height(latency));
            let rest = 1.0 - seen as f64 / total;
            let to = if rest > 0.0 { (-rest.log10()).min(self.nines) } else { self.nines };
            points.push((self.x(from), y));
            points.push((self.x(to), y));
            if to >= self.nines {
                break;
            }
            from = to;
        }
        points
    }

    fn x(&self, nines: f64) -> f64 {
        LEFT + nines / self.nines * (PANEL_WIDTH - LEFT - RIGHT)
    }

    fn y(&self, power: f64) -> f64 {
        let bottom = PANEL_HEIGHT - BOTTOM;
        bottom - (power - self.low) / (self.high - self.low) * (bottom - TOP)
    }
}

/// A latency as a power of ten of a nanosecond.
fn height(latency: Duration) -> f64 {
    (latency.as_nanos().max(1) as f64).log10()
}

fn polyline(out: &mut String, points: &[(f64, f64)], at: usize) {
    let (colour, dashes) = LINES[at % LINES.len()];
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" stroke=\"{colour}\" stroke-width=\"2\" \
         stroke-dasharray=\"{dashes}\" fill=\"none\"/>",
        points.join(" ")
    );
}

fn text(out: &mut String, (x, y): (f64, f64), style: &str, words: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>");
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(micros: impl Iterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        micros.for_each(|micros| histogram.record(Duration::from_micros(micros), 1));
        histogram
    }

    #[test]
    fn lines_rise_within_their_panel() {
        let one = histogram(1..=10_000);
        let panels = [Panel { title: "set", lines: vec![Line { system: "a", histogram: &one }] }];
        let frame = Frame::around(&panels);
        assert_eq!((frame.nines, frame.low, frame.high), (4.0, 3.0, 7.0));
        let points = frame.points(&one);
        let is_within = |&(x, y): &(f64, f64)| {
            (LEFT..=PANEL_WIDTH - RIGHT).contains(&x) && (TOP..=PANEL_HEIGHT - BOTTOM).contains(&y)
        };
        assert!(points.iter().all(is_within), "{points:?}");
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 >= pair[1].1));
        // Nine of ten took 9 ms at most, but for the width of a bucket.
        let place = (frame.x(1.0), frame.y(height(Duration::from_millis(9))));
        let near = |&(x, y): &(f64, f64)| (x - place.0).abs() < 3.0 && (y - place.1).abs() < 1.0;
        assert!(points.iter().any(near), "{place:?}");
    }

    #[test]
    fn names_of_others_are_no_markup() {
        let one = histogram([5].into_iter());
        let lines = vec![Line { system: "<a>", histogram: &one }];
        let svg = figure("a & b", &[Panel { title: "set", lines }]);
        assert!(svg.contains("&lt;a&gt;") && svg.contains("a &amp; b"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn nothing_measured_is_drawn_empty() {
        let none = Histogram::default();
        let lines = vec![Line { system: "a", histogram: &none }];
        assert!(!figure("t", &[Panel { title: "set", lines }]).contains("NaN"));
    }
}
