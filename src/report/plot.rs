//! Plots as SVG.

use std::fmt::Write;

/// Curves over a logarithmic axis.
#[derive(Clone, Debug, Default)]
pub struct LogPlot {
    /// What is plotted.
    pub title: String,
    /// What the horizontal axis shows; its values are above 0.
    pub x: String,
    /// What the vertical axis shows.
    pub y: String,
    /// The curves, the most important last.
    pub curves: Vec<Curve>,
    /// A place on the horizontal axis to point out, and what it is.
    pub mark: Option<(f64, String)>,
}

/// A curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it is.
    pub name: String,
    /// Its colour, as CSS has it.
    pub colour: &'static str,
    /// Its points, from left to right.
    pub points: Vec<[f64; 2]>,
}

/// Width and height in pixels, and the margins at the left, right, top and bottom.
const SIZE: [f64; 2] = [720.0, 440.0];
const MARGIN: [f64; 4] = [72.0, 24.0, 40.0, 56.0];

impl LogPlot {
    /// The picture, as the text of an SVG file. Values that are not finite are left out; what is above the highest point of the
    /// last curve is cut off at the top.
    pub fn svg(&self) -> String {
        let finite = |point: &&[f64; 2]| point[0] > 0.0 && point[0].is_finite() && point[1].is_finite();
        let points = || self.curves.iter().flat_map(|curve| curve.points.iter()).filter(finite);
        let [left, right] = extent(points().map(|point| point[0].log10()));
        let main = self.curves.last().map_or(&[][..], |curve| &curve.points);
        let [low, high] = extent(main.iter().filter(finite).map(|point| point[1]));
        let step = nice((high - low) / 5.0);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        let [width, height] = SIZE;
        let [to_left, to_right, above, below] = MARGIN;
        let x = |log: f64| to_left + (log - left) / (right - left) * (width - to_left - to_right);
        let y = |value: f64| height - below - (value - low) / (high - low) * (height - above - below);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut line = |x1: f64, y1: f64, x2: f64, y2: f64, colour: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                svg,
                "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
            );
        };
        let decades: Vec<i32> = (left.ceil() as i32..=right.floor() as i32).collect();
        let ticks: Vec<f64> = (0..=((high - low) / step).round() as usize).map(|at| low + at as f64 * step).collect();
        decades.iter().for_each(|at| line(x(f64::from(*at)), above, x(f64::from(*at)), height - below, "#ddd"));
        ticks.iter().for_each(|at| line(to_left, y(*at), width - to_right, y(*at), "#ddd"));
        line(to_left, height - below, width - to_right, height - below, "#333");
        line(to_left, above, to_left, height - below, "#333");
        if let Some((at, _)) = &self.mark {
            line(x(at.log10()), above, x(at.log10()), height - below, "#c33");
        }
        let mut text = |x: f64, y: f64, anchor: &str, colour: &str, text: &str| {
            let text = escaped(text);
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>"
            );
        };
        decades
            .iter()
            .for_each(|at| text(x(f64::from(*at)), height - below + 18.0, "middle", "#333", &format!("1e{at}")));
        let digits = (-step.log10().floor()).max(0.0) as usize;
        ticks.iter().for_each(|at| text(to_left - 8.0, y(*at) + 4.0, "end", "#333", &format!("{at:.digits$}")));
        text(width / 2.0, 24.0, "middle", "#333", &self.title);
        text(width / 2.0, height - 12.0, "middle", "#333", &self.x);
        text(8.0, above - 12.0, "start", "#333", &self.y);
        if let Some((at, name)) = &self.mark {
            let anchor = if x(at.log10()) > width / 2.0 { "end" } else { "start" };
            let beside = if anchor == "end" { -6.0 } else { 6.0 };
            text(x(at.log10()) + beside, above + 14.0, anchor, "#c33", name);
        }
        for (at, curve) in self.curves.iter().enumerate() {
            text(to_left + 8.0, height - below - 10.0 - 16.0 * at as f64, "start", curve.colour, &curve.name);
        }
        for curve in &self.curves {
            let shown = |point: &[f64; 2]| format!("{:.1},{:.1}", x(point[0].log10()), y(point[1].clamp(low, high)));
            let points: Vec<String> = curve.points.iter().filter(finite).map(shown).collect();
            let (points, colour) = (points.join(" "), curve.colour);
            let _ =
                writeln!(svg, "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
        }
        svg + "</svg>\n"
    }
}

/// Least and greatest of some values, apart from each other.
fn extent(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let [low, high] = values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| [low.min(x), high.max(x)]);
    match (low.is_finite(), high > low) {
        (false, _) => [0.0, 1.0],
        (true, false) => [low - 0.5, low + 0.5],
        (true, true) => [low, high],
    }
}

/// The next larger number of 1, 2 or 5 and zeros.
fn nice(step: f64) -> f64 {
    let decade = 10f64.powf(step.log10().floor());
    let found = [1.0, 2.0, 5.0].into_iter().map(|digit| digit * decade).find(|nice| *nice >= step * (1.0 - 1e-9));
    found.unwrap_or(10.0 * decade)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<[f64; 2]>) -> String {
        let curve = Curve { name: "a < b".into(), colour: "#06c", points };
        LogPlot { title: "t & u".into(), curves: vec![curve], mark: Some((1e-2, "here".into())), ..LogPlot::default() }
            .svg()
    }

    #[test]
    fn points_lie_between_the_margins() {
        let svg = plot(vec![[1e-3, 0.0], [1e-2, 1.0], [1e-1, f64::NAN], [1e-1, 2.0]]);
        assert!(svg.contains("<polyline points=\"72.0,384.0 384.0,212.0 696.0,40.0\""), "{svg}");
        assert!(svg.contains(">1e-2</text>") && svg.contains("a &lt; b") && svg.contains("t &amp; u"), "{svg}");
        assert!(svg.contains("<line x1=\"384.0\" y1=\"40.0\" x2=\"384.0\" y2=\"384.0\" stroke=\"#c33\"/>"), "{svg}");
    }

    #[test]
    fn a_plot_of_nothing_or_of_one_value_is_a_picture() {
        for points in [Vec::new(), vec![[1.0, 1.0]], vec![[1.0, f64::INFINITY]]] {
            let svg = plot(points);
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!([0.13, 0.2, 3.0, 7.0].map(nice), [0.2, 0.2, 5.0, 10.0]);
    }
}
