//! Every shader that plans of the zoo choose, translated to what each platform's driver takes: SPIR-V for Vulkan
//! (checked by spirv-val where it is installed), MSL for Metal, HLSL for DX12.

use std::{collections::HashSet, process::Command};

use gabor::{
    data::Normalisation,
    gpu::assemble,
    graph::Graph,
    kernel::gpu::{Limits, Shader, Source},
    models,
    nn::Parameters,
    ops::Optimizer,
    plan::{Choices, Plan, PlanOptions, Target, Work},
    train::{Recipe, inference_graph, training_graph},
};
use naga::{
    back::{hlsl, msl, spv},
    valid::{Capabilities, ValidationFlags, Validator},
};

fn limits(software: bool, subgroup: Option<(u32, u32)>) -> Limits {
    Limits {
        max_binding: 2 << 30,
        max_buffer: 2 << 30,
        workgroup_memory: 32 << 10,
        workgroup_invocations: 1024,
        offset_alignment: 256,
        units: 96,
        subgroup,
        software,
    }
}

fn shaders(graph: &Graph, found: &mut HashSet<Shader>) {
    let devices = [(false, Some((32, 64))), (false, None), (true, Some((8, 8)))];
    for limits in devices.map(|(software, subgroup)| limits(software, subgroup)) {
        for fuse in [false, true] {
            let target = Target::Gpu(limits.clone(), Choices::default());
            let plan =
                Plan::new(graph, &target, PlanOptions { fuse, share: true, ..PlanOptions::default() }).expect("a plan");
            for step in &plan.steps {
                if let Work::Run { op, signature, .. } = &step.work {
                    let candidates = op.gpu(signature, &limits);
                    found.extend(candidates.into_iter().flat_map(|c| c.passes).map(|pass| pass.shader));
                }
            }
        }
    }
}

/// Shaders of the zoo's training and inference graphs, with every optimizer.
fn all_shaders() -> Vec<Shader> {
    let mut found = HashSet::new();
    let optimizers = [
        Optimizer::Sgd { momentum: 0.9, nesterov: true },
        Optimizer::from_name("adamw").expect("an optimizer"),
        Optimizer::from_name("rmsprop").expect("an optimizer"),
    ];
    for (entry, optimizer) in models::ZOO.iter().zip(optimizers.iter().cycle()) {
        for input in [[32, 32, 3], [72, 72, 3]] {
            let model = models::build(entry.name, input, 10).expect("a model of the zoo");
            let normalisation = Normalisation { mean: vec![0.5; 3], std: vec![0.25; 3] };
            let recipe = Recipe { batch_size: 4, clip_norm: Some(1.0), optimizer: *optimizer, ..Recipe::default() };
            let mut parameters = Parameters::new(1 << 26);
            let (training, _) =
                training_graph(&model, &mut parameters, &recipe, &normalisation).expect("a training graph");
            let inference = inference_graph(&model, &mut parameters, 4, &normalisation).expect("an inference graph");
            shaders(&training, &mut found);
            shaders(&inference, &mut found);
        }
    }
    found.into_iter().collect()
}

#[test]
fn shaders_translate_for_every_platform() {
    let folder = tempfile::tempdir().expect("a folder");
    let shaders = all_shaders();
    let mut files = Vec::new();
    for (number, shader) in shaders.iter().enumerate() {
        let Source::File(name) = &shader.source else { panic!("the zoo's shaders are files") };
        let text = assemble(shader).unwrap_or_else(|error| panic!("{name}: {error}"));
        let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        // What a device without optional features takes, or with the one that the shader is for.
        let subgroups = shader.features.contains(&"SUBGROUPS");
        let capabilities = if subgroups { Capabilities::SUBGROUP } else { Capabilities::empty() };
        let info = Validator::new(ValidationFlags::all(), capabilities)
            .validate(&module)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        // Subgroup operations came with SPIR-V 1.3.
        let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
        let words =
            spv::write_vec(&module, &info, &options, None).unwrap_or_else(|error| panic!("{name} to SPIR-V: {error}"));
        let path = folder.path().join(format!("{number}.spv"));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        std::fs::write(&path, bytes).expect("a file");
        files.push((name, path));

        let options = msl::Options { fake_missing_bindings: true, ..msl::Options::default() };
        msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|error| panic!("{name} to MSL: {error}"));
        let mut hlsl_text = String::new();
        let options = hlsl::Options { fake_missing_bindings: true, ..hlsl::Options::default() };
        hlsl::Writer::new(&mut hlsl_text, &options, &hlsl::PipelineOptions::default())
            .write(&module, &info, None)
            .unwrap_or_else(|error| panic!("{name} to HLSL: {error}"));
        // They would be left unset as members of a struct.
        for (builtin, call) in
            [("subgroup_size", "WaveGetLaneCount()"), ("subgroup_invocation_id", "WaveGetLaneIndex()")]
        {
            assert_eq!(hlsl_text.contains(call), text.contains(builtin), "{name} to HLSL: {builtin}");
        }
    }
    println!("{} specialisations translated", shaders.len());
    if Command::new("spirv-val").arg("--version").output().is_err() {
        eprintln!("spirv-val is not installed: the SPIR-V was not validated");
        return;
    }
    for (name, path) in files {
        let output =
            Command::new("spirv-val").args(["--target-env", "vulkan1.1"]).arg(&path).output().expect("spirv-val");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
