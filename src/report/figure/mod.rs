//! Figures of runs and models, drawn as SVG and as pictures.

mod canvas;
mod heat;
mod lines;

pub use heat::HeatMap;
pub use lines::{Line, LineChart};

use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use maud::{Markup, PreEscaped, html};
use plotters::{
    coord::Shift,
    prelude::{DrawingArea, DrawingAreaErrorKind, DrawingBackend, IntoDrawingArea, RGBColor, SVGBackend},
    style::{IntoFont, TextStyle},
};

use canvas::Canvas;

/// Width and height of a figure.
const SIZE: (u32, u32) = (720, 400);

const BACK: RGBColor = RGBColor(0xff, 0xff, 0xff);
const TEXT: RGBColor = RGBColor(0x1c, 0x1e, 0x21);
const FAINT: RGBColor = RGBColor(0xd5, 0xd9, 0xde);

/// The colours of curves: those of style.css, by which a page draws them as it is read, in the light, the dark or print.
const CURVES: [(RGBColor, &str); 6] = [
    (RGBColor(0x0b, 0x63, 0xc4), "var(--curve-1)"),
    (RGBColor(0xc2, 0x41, 0x0c), "var(--curve-2)"),
    (RGBColor(0x15, 0x80, 0x3d), "var(--curve-3)"),
    (RGBColor(0x7e, 0x22, 0xce), "var(--curve-4)"),
    (RGBColor(0xa1, 0x62, 0x07), "var(--curve-5)"),
    (RGBColor(0x0e, 0x74, 0x90), "var(--curve-6)"),
];

/// What a figure shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Chart {
    /// Curves.
    Lines(LineChart),
    /// A matrix.
    Heat(HeatMap),
}

/// A figure with its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name in files.
    pub name: String,
    /// Its title.
    pub title: String,
    /// What it shows, in words, for those who do not see it.
    pub text: String,
    /// What it shows.
    pub chart: Chart,
}

type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

impl Figure {
    /// Curves over the epochs of a run, or of several.
    pub fn over_epochs(words: &str, lines: Vec<Line>) -> Self {
        let ends = |line: &Line| match (line.points.first(), line.points.last()) {
            (Some((_, first)), Some((_, last))) => {
                format!("{} from {} to {}", line.name, number(*first), number(*last))
            }
            _ => format!("{}: no epoch", line.name),
        };
        let text = lines.iter().map(ends).collect::<Vec<_>>().join(", ");
        let epochs = lines.iter().map(|line| line.points.len()).max().unwrap_or(0);
        let chart = LineChart { x: "epoch".into(), y: words.into(), lines, ..LineChart::default() };
        let text = format!("Over {epochs} epochs: {text}.");
        Self { name: words.replace(' ', "-"), title: capital(words), text, chart: Chart::Lines(chart) }
    }

    /// As SVG.
    pub fn svg(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail, and a chart that cannot be drawn is an empty one.
        let _ = self.draw(&SVGBackend::with_string(&mut text, SIZE).into_drawing_area());
        text
    }

    /// As the file of a picture (PNG).
    pub fn png(&self) -> Vec<u8> {
        let mut picture = RgbImage::from_pixel(SIZE.0, SIZE.1, image::Rgb([BACK.0, BACK.1, BACK.2]));
        let _ = self.draw(&Canvas(&mut picture).into_drawing_area());
        let mut file = Cursor::new(Vec::new());
        let _ = picture.write_to(&mut file, ImageFormat::Png);
        file.into_inner()
    }

    /// As part of a page, which a screen reader tells by its title and its text.
    pub fn html(&self) -> Markup {
        let title = format!("figure-{}", self.name);
        let svg = self.svg();
        let body =
            svg.find("<svg").and_then(|start| Some(start + svg[start..].find('>')? + 1)).map_or("", |at| &svg[at..]);
        let mut drawing = body.trim_end().trim_end_matches("</svg>").to_string();
        let hex = |RGBColor(r, g, b): RGBColor| format!("\"#{r:02X}{g:02X}{b:02X}\"");
        let names = [(BACK, "none"), (TEXT, "currentColor"), (FAINT, "var(--line)")];
        for (colour, name) in names.into_iter().chain(CURVES) {
            drawing = drawing.replace(&hex(colour), &format!("\"{name}\""));
        }
        let (width, height) = SIZE;
        html! {
            figure {
                svg role="img" aria-labelledby=(title) viewBox={ "0 0 " (width) " " (height) } xmlns="http://www.w3.org/2000/svg" {
                    title id=(title) { (self.title) ": " (self.text) }
                    (PreEscaped(drawing))
                }
                figcaption { (self.text) }
            }
        }
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        area.fill(&BACK)?;
        let area = area.titled(&self.title, style(18))?;
        match &self.chart {
            Chart::Lines(chart) => chart.draw(&area)?,
            Chart::Heat(map) => map.draw(&area)?,
        }
        area.present()
    }
}

/// With a capital letter.
fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

/// As a person reads it, with four digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.2e}"),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.4}"),
    }
}

/// Text of a size in pixels.
fn style(size: i32) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).color(&TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(points: Vec<(f64, f64)>, log: bool) -> Figure {
        let lines = vec![Line { name: "training".into(), points }];
        let chart = LineChart { x: "epoch".into(), y: "loss".into(), lines, log, ..LineChart::default() };
        Figure {
            name: "loss".into(),
            title: "Loss".into(),
            text: "falls from 2 to 1 <in 2 epochs>".into(),
            chart: Chart::Lines(chart),
        }
    }

    #[test]
    fn figures_are_drawn_with_their_words() {
        let figure = figure(vec![(1.0, 2.0), (2.0, 1.0)], false);
        let svg = figure.svg();
        assert!(svg.contains(">\nepoch\n<") && svg.contains(">\ntraining\n<") && svg.contains("#0B63C4"), "{svg}");
        let html = figure.html().into_string();
        assert!(
            html.contains("role=\"img\"") && html.contains("Loss: falls from 2 to 1 &lt;in 2 epochs&gt;"),
            "{html}"
        );
        assert!(html.contains("var(--curve-1)") && !html.contains("#0B63C4") && !html.contains("#FFFFFF"), "{html}");
        let picture = image::load_from_memory(&figure.png()).unwrap().to_rgb8();
        let count = |colour: [u8; 3]| picture.pixels().filter(|pixel| pixel.0 == colour).count();
        assert!(picture.dimensions() == SIZE && count([0x0b, 0x63, 0xc4]) > 200 && count([0x1c, 0x1e, 0x21]) > 50);
    }

    #[test]
    fn what_is_missing_or_not_finite_is_left_out() {
        for points in [vec![], vec![(1.0, f64::NAN)], vec![(1.0, 0.5)], vec![(0.0, f64::INFINITY), (1.0, 1.0)]] {
            for log in [false, true] {
                assert!(figure(points.clone(), log).svg().contains("epoch"), "{points:?}");
            }
        }
    }

    #[test]
    fn matrices_of_any_size_are_drawn() {
        for classes in [1, 2, 10, 1000] {
            let map = HeatMap {
                x: "predicted".into(),
                y: "true".into(),
                values: (0..classes)
                    .map(|row| (0..classes).map(|at| f64::from(u8::from(row == at))).collect())
                    .collect(),
            };
            let figure =
                Figure { name: "confusion".into(), title: "C".into(), text: "t".into(), chart: Chart::Heat(map) };
            let svg = figure.svg();
            assert!(svg.len() < 4_000_000 && svg.contains("predicted"), "{classes}: {}", svg.len());
        }
    }
}
