//! From a shader's declaration to plain WGSL: WESL's imports and conditions are resolved over the embedded `shaders/`.

use std::borrow::Cow;
use std::fmt::Write;

use include_dir::{Dir, include_dir};
use sha2::{Digest, Sha256};
use wesl::{CompileOptions, EscapeMangler, Features, ModulePath, ResolveError, Resolver, syntax::PathOrigin};

use super::GpuError;
use crate::kernel::gpu::{Constant, Shader, Source};

static SHADERS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/shaders");

/// Module under which WESL sees a shader that was given as text.
const TEXT_MODULE: &str = "text";

/// The plain WGSL of `shader`; its entry point is `main`.
///
/// # Errors
/// [`GpuError::Shader`] where a module is missing or does not parse, or a constant is not finite.
pub fn assemble(shader: &Shader) -> Result<String, GpuError> {
    let failed = |message: String| GpuError::Shader { name: name(shader), message };
    let modules = Modules { shader, constants: constants(shader).map_err(failed)? };
    let root = match &shader.source {
        Source::File(path) => path.split('/').map(str::to_string).collect(),
        Source::Text(_) => vec![TEXT_MODULE.to_string()],
    };
    let root = ModulePath::new(PathOrigin::Absolute, root);
    let options = CompileOptions {
        features: Features {
            flags: shader.features.iter().map(|name| (name.to_string(), true.into())).collect(),
            ..Features::default()
        },
        ..CompileOptions::default()
    };
    let compiled = wesl::compile_sourcemap(&root, &modules, &EscapeMangler, &options);
    let directive = if shader.holds_f16() { "enable f16;\n" } else { "" };
    compiled.map(|result| format!("{directive}{result}")).map_err(|error| failed(uncoloured(&error.to_string())))
}

/// Without the escape sequences of colours: WESL colours its messages, wherever they go.
fn uncoloured(message: &str) -> String {
    let mut parts = message.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}

/// Names of the shader files that have an entry point, as [`Source::File`] has them.
pub fn shader_files() -> Vec<String> {
    fn add(folder: &Dir<'_>, found: &mut Vec<String>) {
        let has_entry_point = |file: &&include_dir::File<'_>| {
            file.contents_utf8().is_some_and(|text| text.lines().any(|line| line.starts_with("@compute")))
        };
        let files = folder.files().filter(has_entry_point);
        found.extend(files.map(|file| file.path().with_extension("").to_string_lossy().replace('\\', "/")));
        folder.dirs().for_each(|folder| add(folder, found));
    }
    let mut found = Vec::new();
    add(&SHADERS, &mut found);
    found.sort();
    found
}

/// A hash of the text of all shader files.
pub(super) fn digest() -> [u8; 32] {
    fn add(folder: &Dir<'_>, digest: &mut Sha256) {
        for file in folder.files() {
            digest.update(file.path().to_string_lossy().as_bytes());
            digest.update(file.contents());
        }
        folder.dirs().for_each(|folder| add(folder, digest));
    }
    let mut digest = Sha256::new();
    add(&SHADERS, &mut digest);
    digest.finalize().into()
}

/// Name of a shader in messages.
pub(super) fn name(shader: &Shader) -> String {
    match &shader.source {
        Source::File(path) => path.to_string(),
        Source::Text(_) => TEXT_MODULE.to_string(),
    }
}

/// The module `package::constants`.
fn constants(shader: &Shader) -> Result<String, String> {
    let mut text = String::new();
    for (name, constant) in &shader.constants {
        let _ = match constant {
            Constant::Uint(value) => writeln!(text, "const {name}: u32 = {value}u;"),
            // Without a suffix, because -2147483648i is the negation of a literal that is out of range.
            Constant::Int(value) => writeln!(text, "const {name}: i32 = {value};"),
            Constant::Float(bits) => {
                let value = f32::from_bits(*bits);
                if !value.is_finite() {
                    return Err(format!("constant {name} is {value}, which WGSL cannot express"));
                }
                writeln!(text, "const {name}: f32 = {value:?}f;")
            }
        };
    }
    Ok(text)
}

/// The modules that one shader can import.
struct Modules<'a> {
    shader: &'a Shader,
    constants: String,
}

impl Resolver for Modules<'_> {
    fn resolve_source<'a>(&'a self, path: &ModulePath) -> Result<Cow<'a, str>, ResolveError> {
        let missing = |why: &str| ResolveError::ModuleNotFound(path.clone(), why.to_string());
        match path.components.join("/").as_str() {
            "constants" => Ok(Cow::Borrowed(&self.constants)),
            "fused" => self.shader.fused.as_deref().map(Cow::Borrowed).ok_or_else(|| missing("nothing is fused")),
            module => match &self.shader.source {
                Source::Text(text) if module == TEXT_MODULE => Ok(Cow::Borrowed(text)),
                _ => SHADERS
                    .get_file(format!("{module}.wgsl"))
                    .and_then(|file| file.contents_utf8())
                    .map(Cow::Borrowed)
                    .ok_or_else(|| missing("no such file below shaders/")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses and validates as any WGSL compiler would.
    fn check(wgsl: &str) -> naga::Module {
        let module = naga::front::wgsl::parse_str(wgsl).unwrap_or_else(|e| panic!("{}", e.emit_to_string(wgsl)));
        let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), Default::default());
        validator.validate(&module).unwrap_or_else(|e| panic!("{e:?}\n{wgsl}"));
        module
    }

    #[test]
    fn constants_may_be_computed_with() {
        let shader = Shader::file("dropout/dropout")
            .constant("COUNT", 3u32)
            .constant("LAYER", 5u32)
            .constant("THRESHOLD", 7u32)
            .constant("SCALE", 1e-7f32);
        check(&assemble(&shader).unwrap());
    }

    #[test]
    fn an_imported_module_may_declare_bindings() {
        let fused = "
            import package::lib::math::{erf, erf4, finite};
            alias Element = vec4<f32>;
            alias Stored = Element;
            @group(0) @binding(1) var<storage, read> in0: array<Element>;
            @group(0) @binding(2) var<storage, read> in1: array<f32>;
            fn fused(i: u32) -> Element { let x0 = in0[i]; let x1 = Element(in1[0]); return erf4(x0) * x1; }
        ";
        let shader = Shader::file("pointwise/map").constant("COUNT", 3u32).fused(fused.into());
        let module = check(&assemble(&shader).unwrap());
        let mut bindings: Vec<u32> =
            module.global_variables.iter().filter_map(|(_, v)| v.binding.map(|b| b.binding)).collect();
        bindings.sort_unstable();
        assert_eq!(bindings, [0, 1, 2]);
    }

    #[test]
    fn conditions_and_every_kind_of_constant() {
        let text = "
            import package::constants::{A, B, C};
            @group(0) @binding(0) var<storage, read_write> out: array<f32>;
            @compute @workgroup_size(1) fn main() {
                @if(TWICE) out[0] = 2.0;
                @else out[0] = 1.0;
                @if(!TWICE) { out[1] = 5.0; }
                out[A] = f32(B) + C;
            }
        ";
        let shader = Shader::text(text).constant("A", 2u32).constant("B", i32::MIN).constant("C", -1.5e-39f32);
        let plain = assemble(&shader).unwrap();
        assert!(plain.contains("1.0") && !plain.contains("2.0") && plain.contains("5.0"), "{plain}");
        check(&plain);
        let plain = assemble(&shader.feature("TWICE", true)).unwrap();
        assert!(plain.contains("2.0") && !plain.contains("5.0"), "{plain}");
        check(&plain);
    }

    #[test]
    fn errors_name_the_shader() {
        let error = assemble(&Shader::file("no/such")).unwrap_err().to_string();
        assert!(error.contains("no/such"), "{error}");
        let error = assemble(&Shader::text("fn main() { let = ; }")).unwrap_err().to_string();
        assert!(error.contains("shader text") && error.contains("let = ;") && !error.contains('\x1b'), "{error}");
        let infinite = Shader::file("pointwise/map").constant("COUNT", f32::INFINITY);
        assert!(assemble(&infinite).unwrap_err().to_string().contains("COUNT"));
    }
}
