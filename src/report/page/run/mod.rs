//! The page of a run: how it went, and what its model gets wrong.

mod curves;
mod inside;
mod matrix;
mod mistakes;

use maud::{Markup, html};

use super::{Section, page};
use crate::{
    data::Dataset,
    report::{
        History,
        figure::{Figure, Line},
    },
    tasks::{Evaluation, Metric, Predictions},
    train::Vitals,
};

/// What is known of a run.
pub struct RunReport<'a> {
    /// Its name.
    pub title: String,
    /// What its model and its machine are and how long it took, by what each is called.
    pub facts: Vec<(String, String)>,
    /// What was found wrong with it.
    pub findings: Vec<String>,
    /// The names of its classes.
    pub classes: &'a [String],
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

impl Judged<'_> {
    /// A page of these figures alone, with what is known of the model and the images.
    pub fn page(&self, title: &str, facts: &[(String, String)]) -> String {
        let content = html! { (self.summary()) (table_of("The model", facts)) };
        let mut sections = vec![Section::new("summary", "Summary", content)];
        sections.extend(self.sections().0);
        page(title, &sections)
    }

    /// The classes, what is taken for what, curves and mistakes, and the figures in them.
    fn sections(&self) -> (Vec<Section>, Vec<Figure>) {
        let (matrix, curves, pairs) = (matrix::figure(self), curves::figures(self), mistakes::pairs(self));
        let mut sections = vec![Section::new("classes", "Classes", matrix::classes(self.evaluation))];
        sections.extend(matrix.as_ref().and_then(|figure| matrix::section(self, figure, &pairs)));
        if !curves.is_empty() {
            sections.push(Section::new("curves", "Curves", drawn(&curves)));
        }
        sections.push(Section::new("mistakes", "Mistakes", mistakes::section(self, &pairs)));
        (sections, matrix.into_iter().chain(curves).collect())
    }

    fn summary(&self) -> Markup {
        let Self { part, evaluation, .. } = self;
        html! {
            p { "On " (evaluation.images) " " (part) " images:" }
            ul.cards {
                @for metric in evaluation.metrics.iter().take(8) { (card(metric, evaluation)) }
                li.card { b { (format!("{:.4}", evaluation.loss)) } "loss" }
            }
        }
    }
}

impl RunReport<'_> {
    /// The whole page, and the figures in it.
    pub fn page(&self) -> (String, Vec<Figure>) {
        let (training, inside) = (self.training(), inside::figures(&self.vitals));
        let judged = self.judged.as_ref();
        let (of_images, drawn_of_images) = judged.map(Judged::sections).unwrap_or_default();

        let mut sections = vec![Section::new("summary", "Summary", self.summary())];
        sections.push(Section::new("findings", "Findings", self.told()));
        sections.push(Section::new("training", "Training", drawn(&training)));
        if !inside.is_empty() {
            let content = html! { (drawn(&inside)) (inside::rectifiers(&self.vitals)) };
            sections.push(Section::new("inside", "Inside of the network", content));
        }
        sections.extend(of_images);
        let config = html! { pre tabindex="0" aria-label="Configuration" { (self.config) } };
        sections.push(Section::new("configuration", "Configuration", config));
        let figures = training.into_iter().chain(inside).chain(drawn_of_images);
        (page(&self.title, &sections), figures.collect())
    }

    fn summary(&self) -> Markup {
        html! {
            @if let Some(judged) = &self.judged { (judged.summary()) }
            (table_of("The run", &self.facts))
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
        figures.extend(inside::class_losses(&self.vitals, self.classes));
        figures
    }
}

fn table_of(caption: &str, facts: &[(String, String)]) -> Markup {
    html! {
        table {
            caption { (caption) }
            tbody { @for (name, value) in facts { tr { th scope="row" { (name) } td.words { (value) } } } }
        }
    }
}

/// The same under another name.
fn named(name: &str, figure: Figure) -> Figure {
    Figure { name: name.into(), ..figure }
}

fn card(metric: &Metric, evaluation: &Evaluation) -> Markup {
    let range = evaluation.intervals.get(&metric.key()).map(|range| {
        let [low, high] = [range.low, range.high].map(|value| Metric { value, ..metric.clone() }.shown());
        format!("{low} to {high}")
    });
    html! {
        li.card {
            b { (metric.shown()) }
            (metric.name)
            @if let Some(range) = range { br; span.faint { (range) } }
        }
    }
}

fn drawn(figures: &[Figure]) -> Markup {
    html! { @for figure in figures { (figure.html()) } }
}
