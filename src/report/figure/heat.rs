//! Matrices in colours.

use plotters::{
    coord::Shift,
    prelude::{ChartBuilder, Color, DrawingArea, DrawingBackend, Rectangle},
};

use super::{CURVES, Drawn, FAINT, TEXT, style};

/// Rows and columns that are drawn, at most: of larger matrices, each drawn cell is the mean of several.
const DRAWN: usize = 100;

/// A matrix of values from 0 to 1, from light to dark.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatMap {
    /// What the columns are.
    pub x: String,
    /// What the rows are, the first at the top.
    pub y: String,
    /// The rows, all of one length.
    pub values: Vec<Vec<f64>>,
}

impl HeatMap {
    /// The value of a drawn cell: the mean of those that it covers. Not a number counts as 0.
    fn cell(&self, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> f64 {
        let count = (rows.len() * columns.len()).max(1) as f64;
        let values = self.values[rows].iter().flat_map(|row| &row[columns.clone()]);
        values.filter(|value| value.is_finite()).sum::<f64>() / count
    }

    pub(super) fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let (rows, columns) = (self.values.len(), self.values.first().map_or(0, Vec::len));
        let mut chart = ChartBuilder::on(area);
        let chart = chart.margin(12).x_label_area_size(44).y_label_area_size(60);
        let mut chart = chart.build_cartesian_2d(0.0..columns.max(1) as f64, rows.max(1) as f64..0.0)?;
        let labels = |count: usize| count.min(11);
        chart
            .configure_mesh()
            .disable_mesh()
            .x_labels(labels(columns))
            .y_labels(labels(rows))
            .x_desc(&*self.x)
            .y_desc(&*self.y)
            .axis_desc_style(style(15))
            .label_style(style(14))
            .axis_style(TEXT)
            .x_label_formatter(&|value| format!("{value:.0}"))
            .y_label_formatter(&|value| format!("{value:.0}"))
            .draw()?;
        let edge = |count: usize, at: usize| at * count / count.min(DRAWN);
        for row in 0..rows.min(DRAWN) {
            for column in 0..columns.min(DRAWN) {
                let (top, bottom) = (edge(rows, row), edge(rows, row + 1));
                let (left, right) = (edge(columns, column), edge(columns, column + 1));
                let value = self.cell(top..bottom, left..right);
                let corners = [(left as f64, top as f64), (right as f64, bottom as f64)];
                let colour = CURVES[0].0.mix(value.clamp(0.0, 1.0));
                if value > 0.0 {
                    chart.draw_series([Rectangle::new(corners, colour.filled())])?;
                }
                if rows <= 20 {
                    chart.draw_series([Rectangle::new(corners, FAINT.stroke_width(1))])?;
                }
            }
        }
        Ok(())
    }
}
