//! Every shader that operations declare, translated to what each platform's driver takes: SPIR-V for Vulkan (checked by
//! spirv-val), MSL for Metal, HLSL for DX12; and to a browser's, WGSL as Tint reads it, where `tint` is installed.

use std::{
    collections::{HashMap, HashSet},
    process::Command,
};

use gabor::{
    bench, check,
    gpu::assemble,
    kernel::gpu::{Limits, Shader, Source},
    ops,
};
use naga::{
    back::{hlsl, msl, spv},
    valid::{Capabilities, ValidationFlags, Validator},
};
use rayon::prelude::*;

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
        f16: true,
        adapter: String::new(),
    }
}

/// Hardware and processors, without subgroup operations and with subgroups of the widths that there are.
fn devices() -> Vec<Limits> {
    let subgroups = [None, Some((4, 4)), Some((8, 8)), Some((16, 16)), Some((32, 32)), Some((32, 64)), Some((64, 64))];
    subgroups.into_iter().flat_map(|subgroup| [false, true].map(|software| limits(software, subgroup))).collect()
}

/// The text, the conditions, and whether an expression is fused into it and whether it holds 16-bit floats.
type Kind = (Source, Vec<&'static str>, [bool; 2]);

/// The shaders of all kernels that operations declare, in each combination of conditions, a few specialisations each.
/// Constants differ between these and hardly change what a translator sees.
fn all_shaders() -> Vec<Shader> {
    const EACH: usize = 3;
    let devices = devices();
    let mut found: HashMap<Kind, HashSet<Shader>> = HashMap::new();
    let examples = ops::examples().into_iter().flat_map(|(_, examples)| examples).chain(bench::examples());
    for example in examples {
        let candidates = check::kernels_of(&example, &devices).expect("a graph");
        for shader in candidates.into_iter().flat_map(|candidate| candidate.passes).map(|pass| pass.shader) {
            let key = (shader.source.clone(), shader.features.clone(), [shader.fused.is_some(), shader.holds_f16()]);
            let kept = found.entry(key).or_default();
            if kept.len() < EACH {
                kept.insert(shader);
            }
        }
    }
    found.into_values().flatten().collect()
}

#[test]
fn every_shader_file_belongs_to_a_kernel() {
    let used: HashSet<String> = all_shaders()
        .into_iter()
        .filter_map(|shader| match shader.source {
            Source::File(path) => Some(path.to_string()),
            Source::Text(_) => None,
        })
        .collect();
    let files = gabor::gpu::shader_files();
    assert!(files.len() > 30, "{files:?}");
    let unused: Vec<&String> = files.iter().filter(|file| !used.contains(*file)).collect();
    assert!(unused.is_empty(), "no example of an operation uses {unused:?}");
}

#[test]
fn shaders_translate_for_every_platform() {
    let folder = tempfile::tempdir().expect("a folder");
    let shaders = all_shaders();
    let mut files = Vec::new();
    for (number, shader) in shaders.iter().enumerate() {
        let Source::File(name) = &shader.source else { panic!("the shaders of operations are files") };
        let text = assemble(shader).unwrap_or_else(|error| panic!("{name}: {error}"));
        let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        // What a device without optional features takes, or with those that the shader is for.
        let subgroups = shader.features.contains(&"SUBGROUPS");
        let mut capabilities = if subgroups { Capabilities::SUBGROUP } else { Capabilities::empty() };
        capabilities.set(Capabilities::SHADER_FLOAT16, shader.holds_f16());
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
        let wgsl = folder.path().join(format!("{number}.wgsl"));
        // The standard wants the directive, which naga does not know yet (its issue 5555).
        let enable = if text.contains("subgroup") { "enable subgroups;\n" } else { "" };
        std::fs::write(&wgsl, format!("{enable}{text}")).expect("a file");
        files.push((name, path, wgsl));

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
    let installed = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    if !installed("spirv-val") {
        let required = std::env::var("GABOR_TEST_GPU").is_ok_and(|v| v == "required");
        assert!(!required, "GABOR_TEST_GPU is required and spirv-val is not installed: it comes with spirv-tools");
        eprintln!("spirv-val is not installed: the SPIR-V was not validated");
    } else {
        files.par_iter().for_each(|(name, spirv, _)| {
            let output = Command::new("spirv-val").args(["--target-env", "vulkan1.1"]).arg(spirv).output();
            let output = output.expect("spirv-val");
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        });
    }
    // Debian's package of this name is another program.
    let is_compiler = |output: std::process::Output| String::from_utf8_lossy(&output.stdout).contains("--format");
    if !Command::new("tint").arg("--help").output().is_ok_and(is_compiler) {
        eprintln!("tint is not installed: whether browsers take the WGSL was not checked");
        return;
    }
    files.par_iter().for_each(|(name, _, wgsl)| {
        let output = Command::new("tint").args(["--format", "wgsl"]).arg(wgsl).output().expect("tint");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    });
}
