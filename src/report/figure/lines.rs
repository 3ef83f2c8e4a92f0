//! Curves over a common axis.

use plotters::{
    coord::Shift,
    prelude::{ChartBuilder, Circle, Color, DrawingArea, DrawingBackend, LineSeries, PathElement, SeriesLabelPosition},
};

use super::{BACK, CURVES, Drawn, FAINT, TEXT, style};

/// Points up to which each is marked.
const MARKED: usize = 30;

/// The largest share of a range that is left free at its ends.
const FREE: f64 = 0.04;

/// Curves over a common axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineChart {
    /// What the horizontal axis shows.
    pub x: String,
    /// What the vertical axis shows.
    pub y: String,
    /// The curves. Points that are not finite are left out.
    pub lines: Vec<Line>,
    /// Whether the vertical axis is logarithmic; what is not above 0 is left out then.
    pub log: bool,
    /// Whether both axes go from 0 to 1, with a line from corner to corner.
    pub shares: bool,
}

/// A curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

impl LineChart {
    /// The points of each curve that are drawn, with the vertical axis as it is drawn.
    fn points(&self) -> Vec<Vec<(f64, f64)>> {
        let drawn = |&(x, y): &(f64, f64)| {
            let y = if self.log { y.log10() } else { y };
            (x.is_finite() && y.is_finite()).then_some((x, y))
        };
        self.lines.iter().map(|line| line.points.iter().filter_map(drawn).collect()).collect()
    }

    pub(super) fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let points = self.points();
        let all = || points.iter().flatten();
        let (across, up) = match self.shares {
            true => (0.0..1.0, 0.0..1.0),
            false => (range(all().map(|point| point.0)), range(all().map(|point| point.1))),
        };
        let mut chart = ChartBuilder::on(area);
        let chart = chart.margin(12).x_label_area_size(44).y_label_area_size(72);
        let mut chart = chart.build_cartesian_2d(across, up)?;
        let label = |value: &f64| if self.log { shown(10f64.powf(*value)) } else { shown(*value) };
        chart
            .configure_mesh()
            .x_desc(&*self.x)
            .y_desc(&*self.y)
            .axis_desc_style(style(15))
            .label_style(style(14))
            .axis_style(TEXT)
            .bold_line_style(FAINT)
            .light_line_style(FAINT.mix(0.0))
            .y_label_formatter(&label)
            .x_label_formatter(&|value| shown(*value))
            .draw()?;
        if self.shares {
            chart.draw_series([PathElement::new(vec![(0.0, 0.0), (1.0, 1.0)], FAINT)])?;
        }
        for ((line, points), (colour, _)) in self.lines.iter().zip(&points).zip(CURVES.iter().cycle()) {
            let stroke = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), stroke))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], stroke));
            if points.len() <= MARKED {
                chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
            }
        }
        if self.lines.len() > 1 || self.lines.iter().any(|line| line.name != self.y) {
            chart
                .configure_series_labels()
                .position(if self.shares { SeriesLabelPosition::LowerMiddle } else { SeriesLabelPosition::UpperRight })
                .background_style(BACK.mix(0.0))
                .border_style(FAINT)
                .label_font(style(14))
                .draw()?;
        }
        Ok(())
    }
}

/// The range of some numbers, a little wider; not empty.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if low > high {
        return 0.0..1.0;
    }
    let free = if high > low { FREE * (high - low) } else { 0.5 * low.abs().max(1e-3) };
    low - free..high + free
}

/// A number on an axis.
fn shown(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.0e}"),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}").trim_end_matches('0').into(),
    }
}
