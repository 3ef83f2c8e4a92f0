//! What happened inside of a network, and to its classes, as it was trained.

use maud::{Markup, html};

use crate::{
    report::figure::{Chart, Figure, Line, LineChart},
    train::Vitals,
};

/// Lines that a figure has at most.
const DRAWN: usize = 6;

/// Norms of gradients and what steps changed, over the steps.
pub fn figures(seen: &[Vitals]) -> Vec<Figure> {
    let Some(last) = seen.last() else { return Vec::new() };
    // Weights alone, evenly over the network.
    let weights: Vec<usize> = (0..last.parameters.len()).filter(|at| last.parameters[*at].shape.rank() > 1).collect();
    let count = weights.len().min(DRAWN);
    let chosen: Vec<usize> = (0..count).map(|at| weights[at * (weights.len() - 1) / (count - 1).max(1)]).collect();
    let over = |of: &dyn Fn(&Vitals) -> Option<f64>| -> Vec<(f64, f64)> {
        seen.iter().filter_map(|vitals| Some((vitals.step as f64, of(vitals)?))).collect()
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

/// Mean training loss of each class over the steps: of the worst at the last look, where there are many.
pub fn class_losses(seen: &[Vitals], classes: &[String]) -> Option<Figure> {
    let last = seen.last().filter(|last| last.class_losses.len() == classes.len())?;
    let mut chosen: Vec<(usize, f64)> =
        last.class_losses.iter().enumerate().filter_map(|(class, loss)| Some((class, (*loss)?))).collect();
    chosen.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    chosen.truncate(DRAWN);
    if chosen.is_empty() {
        return None;
    }
    let line = |(class, _): &(usize, f64)| {
        let point = |vitals: &Vitals| Some((vitals.step as f64, (*vitals.class_losses.get(*class)?)?));
        Line { name: classes[*class].clone(), points: seen.iter().filter_map(point).collect() }
    };
    let lines: Vec<Line> = chosen.iter().map(line).collect();
    let named: Vec<String> = chosen.iter().map(|(class, loss)| format!("{} {loss:.3}", classes[*class])).collect();
    let which = if classes.len() > DRAWN { ", the worst of them" } else { "" };
    Some(Figure {
        name: "class-loss".into(),
        title: format!("Training loss by class{which}"),
        text: format!("At the last look: {}.", named.join(", ")),
        chart: Chart::Lines(LineChart { x: "step".into(), y: "loss".into(), lines, ..LineChart::default() }),
    })
}

/// What rectifiers leave at 0.
pub fn rectifiers(seen: &[Vitals]) -> Markup {
    let rectifiers = seen.last().map_or(&[][..], |vitals| &vitals.rectifiers);
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

fn at_the_end(line: &Line) -> String {
    line.points.last().map_or_else(String::new, |(_, last)| format!("{} {last:.1e}", line.name))
}
