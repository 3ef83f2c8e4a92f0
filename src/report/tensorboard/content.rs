//! What TensorBoard shows beside scalars: histograms, precision-recall curves, pictures, graphs.

use super::proto::{
    Content, Dim, GraphDef, Histogram, Image, NodeDef, PluginData, PrCurvePluginData, SummaryMetadata, SummaryValue,
    TensorProto, TensorShape,
};
use crate::{
    graph::{GraphError, Source},
    metrics::Ranking,
    models::Model,
    report::{page::Judged, summary::of_one_image},
};

use prost::Message;

/// Thresholds of a precision-recall curve, from 0 to 1.
const THRESHOLDS: usize = 201;

/// Mistakes that are shown.
const MISTAKES: usize = 16;

/// Numbers in buckets whose limits grow by a tenth, as TensorFlow's do. Numbers that are not finite are left out.
pub fn histogram(values: &[f32]) -> Histogram {
    const SMALLEST: f64 = 1e-12;
    let growth = 1.1f64.ln();
    // Bucket n is up to SMALLEST * 1.1^n; those of negative numbers are mirrored.
    let number = |size: f64| if size <= SMALLEST { 0 } else { ((size / SMALLEST).ln() / growth).ceil() as i64 };
    let mut buckets = std::collections::BTreeMap::new();
    let mut made = Histogram { min: f64::INFINITY, max: f64::NEG_INFINITY, ..Histogram::default() };
    for value in values.iter().filter(|value| value.is_finite()).map(|value| f64::from(*value)) {
        let at = if value < 0.0 { -number(-value) } else { number(value) };
        *buckets.entry(at).or_insert(0.0) += 1.0;
        made.min = made.min.min(value);
        made.max = made.max.max(value);
        made.num += 1.0;
        made.sum += value;
        made.sum_squares += value * value;
    }
    for (at, count) in buckets {
        // Of a negative bucket the limit is the end that is nearer to 0.
        let limit = match at {
            0 => SMALLEST,
            1.. => SMALLEST * (growth * at as f64).exp(),
            _ => -SMALLEST * (growth * (-at - 1) as f64).exp(),
        };
        made.bucket_limit.push(limit);
        made.bucket.push(count);
    }
    if made.num == 0.0 { Histogram::default() } else { made }
}

/// The precision-recall curve of a class: at each threshold, true and false positives, true and false negatives, precision and
/// recall (tensorboard/plugins/pr_curve/summary.py).
pub fn precision_recall(class: &str, ranking: &Ranking) -> SummaryValue {
    let (positives, negatives) = (ranking.positives() as f32, ranking.negatives() as f32);
    let mut rows = vec![Vec::new(); 6];
    for at in 0..THRESHOLDS {
        let threshold = at as f32 / (THRESHOLDS - 1) as f32;
        let last = ranking.points().partition_point(|point| point.threshold >= threshold);
        let point = last.checked_sub(1).and_then(|at| ranking.points().get(at));
        let (right, wrong) = point.map_or((0.0, 0.0), |point| (point.right as f32, point.wrong as f32));
        let precision = if right + wrong == 0.0 { 1.0 } else { right / (right + wrong) };
        let recall = if positives == 0.0 { 0.0 } else { right / positives };
        let figures = [right, wrong, negatives - wrong, positives - right, precision, recall];
        rows.iter_mut().zip(figures).for_each(|(row, figure)| row.push(figure));
    }
    let dim = [6, THRESHOLDS].map(|size| Dim { size: size as i64 }).to_vec();
    let tensor = TensorProto { dtype: 1, tensor_shape: Some(TensorShape { dim }), float_val: rows.concat() };
    let data = PrCurvePluginData { version: 0, num_thresholds: THRESHOLDS as u32 };
    let plugin_data = Some(PluginData { plugin_name: "pr_curves".into(), content: data.encode_to_vec() });
    let metadata = Some(SummaryMetadata { plugin_data });
    SummaryValue { tag: format!("pr_curve/{class}"), metadata, content: Some(Content::Tensor(tensor)) }
}

/// The worst mistakes as pictures; those that became unreadable are left out.
pub fn mistakes(judged: &Judged<'_>) -> Vec<SummaryValue> {
    let size = judged.images.image_size();
    let shown = judged.evaluation.mistakes.iter().take(MISTAKES).zip(1..);
    shown
        .filter_map(|(mistake, number)| {
            let mut pixels = vec![0; size.bytes()];
            judged.images.read(mistake.index, &mut pixels).ok()?;
            let picture = Image {
                height: size.height as i32,
                width: size.width as i32,
                colorspace: size.channels as i32,
                encoded_image_string: crate::report::page::png(&pixels, size)?,
            };
            let tag = format!("mistakes/{number:02} {} taken for {}", mistake.class, mistake.taken_for);
            Some(SummaryValue { tag, metadata: None, content: Some(Content::Image(picture)) })
        })
        .collect()
}

/// The network of a model for one image, a node an operation under the name of its layer.
pub fn graph(model: &Model) -> Result<GraphDef, GraphError> {
    let (graph, ..) = of_one_image(model)?;
    let name = |at: usize| {
        let node = &graph.nodes()[at];
        let what = match &node.source {
            Source::Op(op) => op.name().to_string(),
            Source::Feed(name) => name.clone(),
            Source::Variable { .. } => "variable".into(),
            Source::Constant(_) => "constant".into(),
        };
        let layer = node.scope.replace('.', "/");
        let path = if layer.is_empty() { what.clone() } else { format!("{layer}/{what}") };
        (format!("{path}_{at}").replace(' ', "_"), what)
    };
    let node = |(at, node): (usize, &crate::graph::Node)| {
        let (name_of, op) = name(at);
        NodeDef { name: name_of, op, input: node.inputs.iter().map(|input| name(input.node).0).collect() }
    };
    Ok(GraphDef { node: graph.nodes().iter().enumerate().map(node).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_in_the_bucket_up_to_its_limit() {
        let values = [-1.0, -0.5, 0.0, 0.25, 0.25, 3.0, f32::NAN, f32::INFINITY];
        let made = histogram(&values);
        assert_eq!((made.min, made.max, made.num, made.sum), (-1.0, 3.0, 6.0, 2.0));
        assert!((made.sum_squares - 10.375).abs() < 1e-12);
        assert!(made.bucket_limit.windows(2).all(|pair| pair[0] < pair[1]), "{made:?}");
        for (limit, count) in [(-0.5, 2.0), (0.1, 3.0), (0.3, 5.0), (3.4, 6.0)] {
            let below: f64 =
                made.bucket_limit.iter().zip(&made.bucket).filter(|(at, _)| **at <= limit).map(|(_, n)| n).sum();
            assert!((below - count).abs() < 1.5 && below <= count, "{limit}: {below}, {made:?}");
        }
        assert_eq!(histogram(&[f32::NAN]), Histogram::default());
    }

    #[test]
    fn a_curve_has_the_counts_at_each_threshold() {
        let ranking = Ranking::of(vec![(0.9, true), (0.6, false), (0.4, true), (0.1, false)]);
        let SummaryValue { tag, content: Some(Content::Tensor(tensor)), .. } = precision_recall("cat", &ranking) else {
            panic!("no tensor")
        };
        assert_eq!((tag.as_str(), tensor.float_val.len()), ("pr_curve/cat", 6 * THRESHOLDS));
        let at = |threshold: f32| {
            let column = (threshold * (THRESHOLDS - 1) as f32) as usize;
            (0..6).map(|row| tensor.float_val[row * THRESHOLDS + column]).collect::<Vec<f32>>()
        };
        assert_eq!(at(0.0), [2.0, 2.0, 0.0, 0.0, 0.5, 1.0]);
        assert_eq!(at(0.5), [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]);
        assert_eq!(at(1.0), [0.0, 0.0, 2.0, 2.0, 1.0, 0.0]);
    }

    #[test]
    fn the_graph_names_its_layers() {
        let model = crate::models::build("lenet5", [28, 28, 1], 10).unwrap();
        let made = graph(&model).unwrap();
        assert!(made.node.iter().any(|node| node.name.starts_with("conv1/conv")), "{made:?}");
        let names: std::collections::HashSet<&str> = made.node.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names.len(), made.node.len());
        assert!(made.node.iter().flat_map(|node| &node.input).all(|input| names.contains(input.as_str())));
    }
}
