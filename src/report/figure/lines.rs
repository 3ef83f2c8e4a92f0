//! Curves over a common axis.

use plotters::{
    coord::Shift,
    prelude::{ChartBuilder, Circle, Color, DrawingArea, DrawingBackend, LineSeries, PathElement, Text},
};

use super::{CURVES, Drawn, FAINT, SIZE, TEXT, style};
use crate::report::table::ending;

/// Points up to which each is marked.
const MARKED: usize = 30;

/// Width of the legend beside a chart, in pixels, and the characters of a name that fit into it.
const LEGEND: u32 = 200;
const NAME: usize = 22;

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
        let span = up.end - up.start;
        let has_legend = self.lines.len() > 1 || self.lines.iter().any(|line| line.name != self.y);
        let (area, legend) = match has_legend {
            true => area.split_horizontally((SIZE.0 - LEGEND) as i32),
            false => (area.clone(), area.clone()),
        };
        let mut chart = ChartBuilder::on(&area);
        let chart = chart.margin(12).x_label_area_size(44).y_label_area_size(72);
        let mut chart = chart.build_cartesian_2d(across, up)?;
        let label = |value: &f64| if self.log { format!("{:.1e}", 10f64.powf(*value)) } else { shown(*value, span) };
        // There are only whole epochs and steps.
        let label_across = |value: &f64| match self.shares {
            false if value.fract() != 0.0 => String::new(),
            false => format!("{value:.0}"),
            true => shown(*value, 1.0),
        };
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
            .x_label_formatter(&label_across)
            .draw()?;
        if self.shares {
            chart.draw_series([PathElement::new(vec![(0.0, 0.0), (1.0, 1.0)], FAINT)])?;
        }
        for (points, (colour, _)) in points.iter().zip(CURVES.iter().cycle()) {
            let stroke = colour.stroke_width(2);
            chart.draw_series(LineSeries::new(points.iter().copied(), stroke))?;
            if points.len() <= MARKED {
                chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
            }
        }
        let rows = (24..).step_by(22);
        for ((line, y), (colour, _)) in self.lines.iter().zip(rows).zip(CURVES.iter().cycle()).filter(|_| has_legend) {
            legend.draw(&PathElement::new(vec![(4, y), (22, y)], colour.stroke_width(2)))?;
            legend.draw(&Text::new(ending(&line.name, NAME), (28, y - 7), style(14)))?;
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

/// A number on an axis of this span, with as many digits as tell it from those beside it.
fn shown(value: f64, span: f64) -> String {
    let size = value.abs();
    // What an axis has at 0 may be a little off it.
    if size < 1e-9 * span {
        return "0".into();
    }
    if !(1e-3..1e5).contains(&size) {
        return format!("{value:.1e}");
    }
    let decimals = (1.0 - span.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_an_axis_differ() {
        let axis = |span: f64, values: &[f64]| values.iter().map(|value| shown(*value, span)).collect::<Vec<_>>();
        assert_eq!(axis(0.02, &[0.97, 0.975, 0.98]), ["0.970", "0.975", "0.980"]);
        assert_eq!(axis(2.0, &[0.0, 0.5, 1.5]), ["0", "0.5", "1.5"]);
        assert_eq!(axis(4000.0, &[500.0, 1000.0]), ["500", "1000"]);
        assert_eq!(axis(1e-3, &[1e-3, 9e-4, 9.5e-4]), ["0.0010", "9.0e-4", "9.5e-4"]);
    }
}
