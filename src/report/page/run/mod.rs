//! The page of a run: how it went, and what its model gets wrong.

mod curves;
mod matrix;
mod mistakes;

use maud::{Markup, html};

use super::{Section, page};
use crate::{
    data::Dataset,
    report::{
        History,
        figure::{Chart, Figure, HeatMap, Line, LineChart},
    },
    tasks::{Evaluation, Metric, Predictions},
    train::Vitals,
};

/// Parameters whose gradients are drawn.
const DRAWN: usize = 6;

/// What is known of a run.
pub struct RunReport<'a> {
    /// Its name.
    pub title: String,
    /// What its model and its machine are and how long it took, by what each is called.
    pub facts: Vec<(String, String)>,
    /// What was found wrong with it.
    pub findings: Vec<String>,
    /// Its epochs.
    pub history: History,
    /// What happened inside of the network.
    pub vitals: Vec<Vitals>,
    /// How its model does, on which images, and what it said of each of them.
    pub judged: Option<Judged<'a>>,
    /// Its configuration.
    pub config: String,
}

/// How a model does on images.
pub struct Judged<'a> {
    /// Which part of the data they are: test or validation.
    pub part: &'static str,
    /// The figures.
    pub evaluation: &'a Evaluation,
    /// What was said of each image.
    pub predictions: &'a Predictions,
    /// The images, in the same order.
    pub images: &'a Dataset,
}

impl RunReport<'_> {
    /// All figures, those of the training first.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = self.training();
        figures.extend(self.inside());
        if let Some(judged) = &self.judged {
            figures.extend(matrix::figure(judged));
            figures.extend(curves::figures(judged));
        }
        figures
    }

    /// The whole page.
    pub fn html(&self) -> String {
        let mut sections = vec![Section::new("summary", "Summary", self.summary())];
        sections.push(Section::new("findings", "Findings", self.told()));
        sections.push(Section::new("training", "Training", drawn(&self.training())));
        let inside = self.inside();
        if !inside.is_empty() {
            sections.push(Section::new(
                "inside",
                "Inside of the network",
                html! { (drawn(&inside)) (self.rectifiers()) },
            ));
        }
        if let Some(judged) = &self.judged {
            let pairs = mistakes::pairs(judged);
            sections.push(Section::new("classes", "Classes", matrix::classes(judged.evaluation)));
            sections.extend(matrix::section(judged, &pairs));
            let curves = curves::figures(judged);
            if !curves.is_empty() {
                sections.push(Section::new("curves", "Curves", drawn(&curves)));
            }
            sections.push(Section::new("mistakes", "Mistakes", mistakes::section(judged, &pairs)));
        }
        let config = html! { pre tabindex="0" aria-label="Configuration" { (self.config) } };
        sections.push(Section::new("configuration", "Configuration", config));
        page(&self.title, &sections)
    }

    fn summary(&self) -> Markup {
        let judged = self.judged.as_ref();
        html! {
            @if let Some(Judged { part, evaluation, .. }) = judged {
                p { "On " (evaluation.images) " " (part) " images:" }
                ul.cards {
                    @for metric in evaluation.metrics.iter().take(8) { (card(metric, evaluation)) }
                    li.card { b { (format!("{:.4}", evaluation.loss)) } "loss" }
                }
            }
            table {
                caption { "The run" }
                tbody { @for (name, value) in &self.facts { tr { th scope="row" { (name) } td.words { (value) } } } }
            }
        }
    }

    fn told(&self) -> Markup {
        html! {
            @if self.findings.is_empty() {
                p { "Nothing was found wrong with how the run went." }
            } @else {
                ul.findings { @for finding in &self.findings { li { (finding) } } }
            }
        }
    }

    /// Loss, first figure, learning rate and speed over the epochs.
    fn training(&self) -> Vec<Figure> {
        let history = &self.history;
        let mut figures = Vec::new();
        let first = history.names().find(|name| name.starts_with("train_") && *name != "train_loss");
        let metric = first.and_then(|name| name.strip_prefix("train_")).map(String::from);
        for (name, key) in std::iter::once(("loss", "loss".to_string())).chain(metric.map(|key| ("metric", key))) {
            let line =
                |side: &str, named: &str| Line { name: named.into(), points: history.curve(&format!("{side}_{key}")) };
            let lines = [line("train", "training"), line("val", "validation")];
            let words = key.replace('_', " ");
            figures.push(named(
                name,
                Figure::over_epochs(&words, lines.into_iter().filter(|line| !line.points.is_empty()).collect()),
            ));
        }
        for (name, key) in [("learning-rate", "learning_rate"), ("speed", "images_per_second")] {
            let words = key.replace('_', " ");
            figures.push(named(
                name,
                Figure::over_epochs(&words, vec![Line { name: words.clone(), points: history.curve(key) }]),
            ));
        }
        figures
    }

    /// Norms of gradients and what steps changed, over the steps.
    fn inside(&self) -> Vec<Figure> {
        let Some(last) = self.vitals.last() else { return Vec::new() };
        // Weights alone, evenly over the network.
        let weights: Vec<usize> =
            (0..last.parameters.len()).filter(|at| last.parameters[*at].shape.rank() > 1).collect();
        let count = weights.len().min(DRAWN);
        let chosen: Vec<usize> = (0..count).map(|at| weights[at * (weights.len() - 1) / (count - 1).max(1)]).collect();
        let over = |of: &dyn Fn(&Vitals) -> Option<f64>| -> Vec<(f64, f64)> {
            self.vitals.iter().filter_map(|vitals| Some((vitals.step as f64, of(vitals)?))).collect()
        };
        let line = |at: &usize| Line {
            name: last.parameters[*at].name.clone(),
            points: over(&|vitals| Some(vitals.parameters.get(*at)?.gradient_rms())),
        };
        let gradients: Vec<Line> = chosen.iter().map(line).collect();
        let update = vec![Line { name: "all weights".into(), points: over(&|vitals| Some(vitals.update_ratio())) }];
        let figure = |name: &str, title: &str, y: &str, lines: Vec<Line>| {
            let text = lines.iter().map(at_the_end).collect::<Vec<_>>().join("; ");
            let chart = LineChart { x: "step".into(), y: y.into(), lines, log: true, shares: false };
            Figure {
                name: name.into(),
                title: title.into(),
                text: format!("At the last step: {text}."),
                chart: Chart::Lines(chart),
            }
        };
        vec![
            figure("gradients", "Gradients", "root mean square", gradients),
            figure("updates", "Change of the weights by a step, over their norm", "ratio", update),
        ]
    }

    /// What rectifiers leave at 0.
    fn rectifiers(&self) -> Markup {
        let rectifiers = self.vitals.last().map_or(&[][..], |vitals| &vitals.rectifiers);
        html! {
            @if !rectifiers.is_empty() {
                details {
                    summary { "What the rectifiers (ReLU) leave at 0" }
                    table {
                        caption { "At the last step" }
                        thead { tr { th scope="col" { "layer" } th scope="col" { "zeros" } th scope="col" { "dead channels" } } }
                        tbody {
                            @for rectifier in rectifiers {
                                tr {
                                    th scope="row" { (rectifier.layer) }
                                    td { (format!("{:.1}%", 100.0 * rectifier.zeros)) }
                                    td { (rectifier.dead) " of " (rectifier.channels) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The same under another name.
fn named(name: &str, figure: Figure) -> Figure {
    Figure { name: name.into(), ..figure }
}

fn at_the_end(line: &Line) -> String {
    line.points.last().map_or_else(String::new, |(_, last)| format!("{} {last:.1e}", line.name))
}

/// A figure that is not defined is no such thing, and not a number.
fn shown(metric: &Metric) -> String {
    if metric.value.is_nan() { "-".into() } else { metric.shown() }
}

fn card(metric: &Metric, evaluation: &Evaluation) -> Markup {
    let range = evaluation.intervals.get(&metric.key()).map(|range| {
        let [low, high] = [range.low, range.high].map(|value| shown(&Metric { value, ..metric.clone() }));
        format!("{low} to {high}")
    });
    html! {
        li.card {
            b { (shown(metric)) }
            (metric.name)
            @if let Some(range) = range { br; span.faint { (range) } }
        }
    }
}

fn drawn(figures: &[Figure]) -> Markup {
    html! { @for figure in figures { (figure.html()) } }
}
