//! Keras's tutorial CNN.

use crate::nn::{Conv2d, Dense, Flatten, Layer, MaxPool2d, Sequential};

/// Keras's tutorial CNN: 3x3 convolutions of 32 and 64 filters, each followed by a 2x2 max pool, and a dense layer of
/// 128 before the logits.
pub fn build(_input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    let network = Sequential::new()
        .add(Conv2d::new(32, 3).relu())
        .add(MaxPool2d::new(2))
        .add(Conv2d::new(64, 3).relu())
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Dense::new(128).relu())
        .add(Dense::new(classes));
    Box::new(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        autodiff, check,
        cpu::CpuExecutor,
        graph::{Graph, Value},
        nn::{Builder, Mode, Parameters},
        plan::{Executor, Plan, PlanOptions, Target},
    };

    /// PyTorch's name of a parameter: `conv1.weight` is `conv1_w` there.
    fn reference_name(name: &str) -> String {
        name.replace(".weight", "_w").replace(".bias", "_b")
    }

    #[test]
    fn loss_and_gradients_are_pytorch_s() {
        let case = &check::reference("seed_cnn")[0];
        let (mut graph, mut parameters) = (Graph::new(), Parameters::new(usize::MAX));
        let x = graph.constant(case.tensor("x"));
        let labels = graph.constant(case.tensor("labels"));
        let mut builder = Builder::new(&mut graph, &mut parameters, Mode::Training, None);
        let logits = build([16, 16, 1], 10).forward(&mut builder, x).unwrap();
        let built = builder.finish();
        let losses = graph.softmax_cross_entropy(logits, labels, 0.0).unwrap();
        let loss = graph.mean(losses, &[0]).unwrap();
        let wrt: Vec<Value> = built.parameters.iter().map(|(_, value)| *value).collect();
        graph.output("logits", logits);
        graph.output("loss", loss);
        for ((at, _), gradient) in built.parameters.iter().zip(autodiff::gradients(&mut graph, loss, &wrt).unwrap()) {
            graph.output(format!("d{}", reference_name(&parameters.get(*at).name)), gradient);
        }

        let mut cpu = CpuExecutor::new();
        cpu.declare(parameters.variables()).unwrap();
        for parameter in parameters.iter() {
            let variable = parameters.blocks()[parameter.block].variable;
            cpu.write(variable, parameter.offset, &case.tensor(&reference_name(&parameter.name))).unwrap();
        }
        let program = cpu.load(Plan::new(&graph, &Target::Cpu, PlanOptions::default()).unwrap()).unwrap();
        cpu.run(program, &[]).unwrap();
        let outputs = cpu.collect(program, true).unwrap().remove(0);
        assert_eq!(outputs.len(), 10);
        for (name, got) in &outputs {
            let error = check::relative_error(got.as_f32().unwrap(), case.tensor(name).as_f32().unwrap());
            assert!(error <= 2e-6, "{name}: off by {error:.2e} from PyTorch");
        }
    }
}
