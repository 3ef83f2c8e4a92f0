//! Graphs as files: every network of the zoo, in training and in inference, comes back as the same plan.

use gabor::{
    data::Normalisation,
    graph::{self, Graph},
    kernel::gpu::Limits,
    models::{self, Model, ZOO},
    nn::{AveragePool2d, BatchNorm, Conv2d, Dense, Dropout, Flatten, LayerNorm, MaxPool2d, Parameters, Sequential},
    ops,
    plan::{Choices, Plan, PlanOptions, Target},
    train::{Recipe, inference_graph, training_graph},
};

/// The limits of no GPU in particular.
const LIMITS: Limits = Limits {
    max_binding: 1 << 30,
    max_buffer: 1 << 30,
    workgroup_memory: 32 << 10,
    workgroup_invocations: 1024,
    offset_alignment: 256,
    subgroup: Some((32, 32)),
    units: 32,
    software: false,
    f16: false,
    adapter: String::new(),
};

fn expect_equal_plans(name: &str, graph: &Graph, parameters: &Parameters, options: PlanOptions) {
    let text = graph::save(graph, parameters.variables()).unwrap();
    let (again, variables) = graph::load(&text, &ops::make).unwrap();
    assert_eq!(format!("{variables:?}"), format!("{:?}", parameters.variables()), "{name}");
    for target in [Target::Cpu, Target::Gpu(LIMITS, Choices::default())] {
        let plan = |graph: &Graph| format!("{:?}", Plan::new(graph, &target, options).unwrap());
        assert!(plan(&again) == plan(graph), "{name}: the plan of the file is another one");
    }
}

#[test]
fn every_network_of_the_zoo_comes_back() {
    let normalisation = Normalisation { mean: vec![0.5; 3], std: vec![0.25; 3] };
    for entry in ZOO {
        let model = models::build(entry.name, [32, 32, 3], 10).unwrap();
        let recipe = Recipe { batch_size: Some(8), ..Recipe::default() };
        let mut parameters = Parameters::new(usize::MAX);
        let (training, _) = training_graph(&model, &mut parameters, &recipe, &normalisation).unwrap();
        expect_equal_plans(
            entry.name,
            &training,
            &parameters,
            PlanOptions { recompute: true, ..PlanOptions::default() },
        );
        let inference = inference_graph(&model, &mut parameters, 8, &normalisation).unwrap();
        expect_equal_plans(entry.name, &inference, &parameters, PlanOptions::inference());
    }
}

/// A graph with an operation of most kinds, in training.
fn varied() -> String {
    let normalisation = Normalisation { mean: vec![0.5; 3], std: vec![0.25; 3] };
    let network = Sequential::new()
        .add(Conv2d::new(4, 3))
        .add(BatchNorm::new())
        .add(MaxPool2d::new(2))
        .add(AveragePool2d::new(2))
        .add(LayerNorm::new(1e-6))
        .add(Flatten)
        .add(Dropout::new(0.5))
        .add(Dense::new(3));
    let model = Model::new("varied", [8, 8, 3], 3, network);
    let recipe = Recipe { batch_size: Some(2), clip_norm: Some(1.0), ..Recipe::default() };
    let mut parameters = Parameters::new(usize::MAX);
    let (graph, _) = training_graph(&model, &mut parameters, &recipe, &normalisation).unwrap();
    graph::save(&graph, parameters.variables()).unwrap()
}

/// Whatever a file says, it is a graph or an error.
#[test]
fn no_number_of_a_file_brings_the_planner_down() {
    const NUMBERS: [&str; 5] = ["0", "1", "7", "4294967295", "18446744073709551615"];
    let text = varied();
    let is_digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let starts: Vec<usize> = (1..text.len()).filter(|at| is_digit(*at) && !is_digit(at - 1)).collect();
    let mut planned = 0;
    for (start, number) in starts.into_iter().flat_map(|start| NUMBERS.map(|number| (start, number))) {
        let end = (start..).find(|at| !is_digit(*at)).unwrap();
        let changed = [&text[..start], number, &text[end..]].concat();
        let Ok((graph, _)) = graph::load(&changed, &ops::make) else { continue };
        for target in [Target::Cpu, Target::Gpu(LIMITS, Choices::default())] {
            if let Ok(plan) = Plan::new(&graph, &target, PlanOptions::default()) {
                assert!(!plan.to_string().is_empty());
                planned += 1;
            }
        }
    }
    assert!(planned > 100, "{planned}");
}
