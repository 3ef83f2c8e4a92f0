//! How a dashboard looks.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    symbols::Marker,
    text::{Line, Span},
    widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Sparkline, Wrap},
};

use super::seen::{Seen, Series};
use crate::report::{grouped, progress::clock, table::ending};

/// Colours of what belongs to training and to validation.
const SIDES: [(&str, Color); 2] = [("training", Color::Cyan), ("validation", Color::Yellow)];

/// Draws all of it. A run whose end was `asked` for says so.
pub fn draw(frame: &mut Frame<'_>, seen: &Seen, messages: &str, asked: bool) {
    let [title, progress, body, keys] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Line::from(seen.about.title.as_str()).bold(), title);
    frame.render_widget(gauge(seen), progress);
    let [left, right] = Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)]).areas(body);
    let [loss, metric, speed] =
        Layout::vertical([Constraint::Fill(1), Constraint::Fill(1), Constraint::Length(4)]).areas(left);
    chart(frame, loss, "loss", &seen.losses);
    chart(frame, metric, seen.metric.as_deref().unwrap_or("figure"), &seen.metrics);
    throughput(frame, speed, seen);
    let [epochs, images, classes, told] = Layout::vertical([Constraint::Fill(1); 4]).areas(right);
    list(frame, epochs, "Epochs", seen.epochs.iter().cloned().collect());
    let hard = seen.hardest.iter().map(|hard| format!("{:7.3}  {}  {}", hard.loss, hard.class, ending(&hard.name, 40)));
    list(frame, images, "Hardest images of the last steps (loss, class)", hard.collect());
    let worst = seen.worst_classes().into_iter().map(|(class, loss)| format!("{loss:7.3}  {class}"));
    list(frame, classes, "Classes by loss", worst.collect());
    let messages = if messages.trim().is_empty() { "nothing so far" } else { messages.trim() };
    let told_of = Paragraph::new(messages).wrap(Wrap { trim: true }).block(Block::bordered().title("Findings"));
    frame.render_widget(told_of, told);
    let hint = match asked {
        true => "stopping after this step, with a checkpoint; once more to stop at once",
        false => "q or Ctrl-C stops after this step, with a checkpoint",
    };
    frame.render_widget(Line::from(hint).dim(), keys);
}

/// How far the run is.
fn gauge(seen: &Seen) -> Gauge<'_> {
    let ratio = if seen.total > 0 { seen.step as f64 / seen.total as f64 } else { 0.0 };
    let label = match seen.validating {
        _ if seen.step == 0 => "beginning".to_string(),
        Some((done, total)) => format!("validating {} of {}", grouped(done), grouped(total)),
        None => {
            let left = seen.left().map_or_else(String::new, |left| format!("  {} left", clock(left)));
            format!(
                "epoch {}/{}  step {}/{}  loss {:.4}  rate {:.2e}{left}",
                seen.epoch, seen.about.epochs, seen.step, seen.total, seen.loss, seen.learning_rate
            )
        }
    };
    Gauge::default()
        .ratio(ratio.clamp(0.0, 1.0))
        .label(label)
        .gauge_style(Style::new().fg(Color::Cyan).bg(Color::Black))
}

/// Curves over the epochs.
fn chart(frame: &mut Frame<'_>, area: Rect, name: &str, series: &[Series; 2]) {
    let points = || series.iter().flat_map(Series::points);
    let range = |of: fn(&(f64, f64)) -> f64| {
        points().map(of).fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], at| [low.min(at), high.max(at)])
    };
    let [left, right] = widened(range(|point| point.0));
    let [low, high] = widened(range(|point| point.1));
    let curve = |(series, (_, colour))| {
        let series: &Series = series;
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(colour))
            .data(series.points())
    };
    let curves = series.iter().zip(SIDES).filter(|(series, _)| !series.points().is_empty()).map(curve).collect();
    let labels = |range: [f64; 2]| range.map(|at| format!("{at:.2}"));
    // A legend inside would lie over the curves, and is left out where there is little room.
    let sides = SIDES.into_iter().flat_map(|(side, colour)| [Span::raw("  "), Span::styled(side, colour)]);
    let title: Line<'_> = [Span::raw(name)].into_iter().chain(sides).collect();
    let chart = Chart::new(curves)
        .block(Block::bordered().title(title))
        .x_axis(Axis::default().title("epoch").bounds([left, right]).labels(labels([left, right])))
        .y_axis(Axis::default().bounds([low, high]).labels(labels([low, high])));
    frame.render_widget(chart, area);
}

/// A range with some width, also of one point or none.
fn widened([low, high]: [f64; 2]) -> [f64; 2] {
    match high - low {
        width if width > 0.0 => [low, high],
        0.0 => [low - 0.5, high + 0.5],
        _ => [0.0, 1.0],
    }
}

/// Images a second over the last steps.
fn throughput(frame: &mut Frame<'_>, area: Rect, seen: &Seen) {
    let width = usize::from(area.width.saturating_sub(2));
    let from = seen.speeds.len().saturating_sub(width);
    let speeds: Vec<u64> = seen.speeds.iter().skip(from).copied().collect();
    let now = speeds.last().map_or_else(String::new, |speed| format!(", now {}", grouped(*speed as usize)));
    let block = Block::bordered().title(format!("Images a second{now}"));
    frame.render_widget(Sparkline::default().block(block).data(speeds).style(Style::new().fg(Color::Green)), area);
}

fn list(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<String>) {
    let lines: Vec<Line<'_>> = lines.into_iter().take(usize::from(area.height)).map(Line::from).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title.to_string())), area);
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::{
        data::{Dataset as Images, ImageSize},
        report::dashboard::About,
        tasks::{Evaluation, Metric},
        train::{EpochReport, ImageLoss, StepReport},
    };

    fn seen() -> Seen {
        let classes = vec!["cat".to_string(), "dog".to_string()];
        let images = Images::from_pixels("pets", vec![0; 2], ImageSize::new(1, 1, 1), vec![0, 1], classes).unwrap();
        let mut seen = Seen::of(About { title: "seed-cnn on pets".into(), epochs: 3, batches: 4, images });
        for step in 1..=4 {
            seen.step(&StepReport {
                step,
                epoch: 1,
                total_steps: 12,
                loss: 2.0 / step as f32,
                losses: vec![ImageLoss { image: 1, loss: 4.25 }],
                metrics: vec![Metric::share("accuracy", 0.5)],
                learning_rate: 0.1,
                images_per_second: 1234.0,
            });
        }
        let metrics = vec![Metric::share("accuracy", 0.75)];
        seen.epoch(&EpochReport {
            epoch: 1,
            step: 4,
            train_loss: 1.0,
            train_metrics: metrics.clone(),
            validation: Some(Evaluation { loss: 0.875, metrics, ..Evaluation::default() }),
            learning_rate: 0.1,
            images_per_second: 1234.0,
            seconds: 1.0,
            logged: Vec::new(),
            best: true,
        });
        seen.class_losses = vec![Some(0.5), None];
        seen
    }

    fn screen(seen: &Seen, messages: &str, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, seen, messages, false)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn it_shows_how_the_run_goes() {
        let screen = screen(&seen(), "WARN dead ReLUs in conv1", 120, 40);
        for words in [
            "seed-cnn on pets",
            "epoch 1/3  step 4/12  loss 0.5000",
            "training",
            "validation",
            "accuracy",
            "now 1,234",
            "   1  1.0000  75.00%  val 0.8750  75.00%  best",
            "4.250  dog",
            "0.500  cat",
            "WARN dead ReLUs in conv1",
            "q or Ctrl-C stops",
        ] {
            assert!(screen.contains(words), "no {words:?} in\n{screen}");
        }
    }

    #[test]
    fn it_fits_any_terminal() {
        let whole = seen();
        let images = whole.about.images.clone();
        let empty = Seen::of(About { title: String::new(), epochs: 0, batches: 0, images });
        for seen in [&whole, &empty] {
            for size in 1..30 {
                screen(seen, "", size, 40);
                screen(seen, &"long ".repeat(500), 100, size);
            }
        }
        assert!(screen(&empty, "", 100, 30).contains("nothing so far"));
    }
}
