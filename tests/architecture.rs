//! The architecture as ARCHITECTURE.md states it: imports run downward only, nothing outside of `src/ops/` names an
//! operation, and the library without its features is light.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The rooms of the library, in the table's order, each with those that it may import.
fn rooms() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut rooms = Vec::new();
    for row in text.lines().filter(|line| line.starts_with("| `src/")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let imports: Vec<String> = cells[3].split(',').map(|name| name.trim().to_string()).collect();
        for path in cells[1].split(',').map(|path| path.trim().trim_matches('`')) {
            let name = path.trim_start_matches("src/").trim_end_matches('/').trim_end_matches(".rs");
            rooms.push((name.to_string(), imports.iter().filter(|name| !name.is_empty()).cloned().collect()));
        }
    }
    rooms
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The library's files but tests, each with its room and its code: no comments, and nothing from its tests on.
fn files() -> Vec<(PathBuf, String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(root().join("src")).unwrap().to_path_buf();
            let room = relative.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_string();
            if !["lib", "main", "cli"].contains(&room.as_str()) && !relative.ends_with("tests.rs") {
                let code = code(&fs::read_to_string(&path).unwrap());
                files.push((relative, room, code));
            }
        }
    }
    files
}

fn code(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect();
    let is_tests = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].ends_with('{');
    let end = lines.windows(2).position(is_tests).unwrap_or(lines.len());
    lines[..end].join("\n")
}

/// The first name of each path after `prefix`, such as `graph` of `crate::graph::Value`, groups in braces included.
fn names_after(prefix: &str, code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, letter) in group.char_indices() {
            match letter {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                letter if begins && !letter.is_whitespace() => {
                    names.insert(identifier(&group[at..]));
                    begins = false;
                }
                _ => (),
            }
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[test]
fn names_are_those_of_a_path_s_beginning() {
    let code = "use crate::{\nautodiff,\ngraph::{Graph, Value},\nkernel::gpu,\n};\nlet x = crate::tensor::Tensor::scalar(1.0);";
    assert_eq!(names_after("crate::", code), ["autodiff", "graph", "kernel", "tensor"].map(String::from).into());
}

#[test]
fn imports_run_downward_only() {
    let rooms = rooms();
    // What a room may import, what that may import, and so on; a room's row comes after those of what it may import.
    let mut allowed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (room, imports) in &rooms {
        let mut all = BTreeSet::from([room.clone()]);
        for import in imports.iter().filter(|import| *import != "all") {
            let below = allowed.get(import);
            all.extend(below.unwrap_or_else(|| panic!("the row of {room} comes before that of {import}")).clone());
        }
        allowed.insert(room.clone(), all);
    }
    let mut wrong = Vec::new();
    for (path, room, code) in files() {
        let allowed = allowed.get(&room).unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for {room}"));
        let names = names_after("crate::", &code);
        wrong.extend(names.difference(allowed).map(|name| format!("{} imports {name}", path.display())));
    }
    assert!(wrong.is_empty(), "against the table of ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn nothing_outside_of_ops_names_an_operation() {
    let files = files();
    let (ops, others): (Vec<_>, Vec<_>) = files.iter().partition(|(_, room, _)| room == "ops");
    let types: BTreeSet<String> = ops.iter().flat_map(|(_, _, code)| names_after(" Op for ", code)).collect();
    assert!(types.contains("Conv2d") && types.contains("Pointwise"), "{types:?}");
    let registry = &ops.iter().find(|(path, ..)| path.ends_with("ops/mod.rs")).unwrap().2;
    let kinds: BTreeSet<String> = names_after("(\"", registry);
    assert!(kinds.contains("conv2d") && kinds.contains("pointwise"), "{kinds:?}");
    let mut wrong = Vec::new();
    for (path, room, code) in others {
        let named = names_after("ops::", code);
        wrong.extend(named.intersection(&types).map(|name| format!("{} names {name}", path.display())));
        // Layers bear the names of operations.
        let said = kinds.iter().filter(|kind| room != "nn" && code.contains(&format!("\"{kind}\"")));
        wrong.extend(said.map(|kind| format!("{} says {kind:?}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The crates that a build compiles, this one included; `None` where there is no cargo to ask.
fn crates(options: &[&str]) -> Option<usize> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tree = Command::new(cargo);
    tree.args(["tree", "--offline", "--package=gabor", "--edges=normal,build", "--prefix=none", "--no-dedupe"]);
    let output = match tree.args(["--format={p}"]).args(options).current_dir(root()).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("crates were not counted, cargo does not run: {error}");
            return None;
        }
    };
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<&str> = text.lines().filter_map(|line| line.split(" (").next()).collect();
    Some(crates.len())
}

#[test]
fn the_library_without_features_compiles_few_crates() {
    let Some(full) = crates(&[]) else { return };
    let light = crates(&["--no-default-features"]).expect("cargo ran before");
    assert!(light > 1 && 10 * light <= 4 * full, "{light} of {full} crates");
}
