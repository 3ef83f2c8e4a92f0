//! Images whose labels are in a file: CSV, or a path and a class a line.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use super::dataset::MOST_CLASSES;
use super::finding::Finding;
use super::folder::{has_image_name, read_images};
use super::open::Opened;
use super::{DataError, LabelKind, Labels, OpenOptions};

/// Bytes that a file of labels may have.
const MOST_BYTES: u64 = 1 << 30;
/// Numbers that the rows of labels may have in all: 1 GiB of them.
const MOST_NUMBERS: usize = 1 << 28;
/// What may stand between the classes of a cell.
const SEPARATORS: [char; 3] = ['|', ';', ','];
/// How a column may be called that holds paths.
const PATHS: [&str; 7] = ["path", "file", "filename", "file_name", "image", "image_path", "image_name"];
/// How a column may be called that holds classes.
const CLASSES: [&str; 7] = ["label", "labels", "class", "classes", "category", "tags", "target"];

/// An image with its classes, as the file has them.
struct Row {
    line: u64,
    path: String,
    classes: Vec<String>,
    /// What stands in the column of groups, if there is one.
    group: Option<String>,
}

/// What a file of labels says.
struct Table {
    rows: Vec<Row>,
    /// Names of the classes, where each has a column.
    columns: Option<Vec<String>>,
    /// Why an image is of several classes or of none, where it can be.
    several: Option<String>,
}

/// Opens the images that the file `labels` names. Their paths are relative to `root` or to the folder of the file.
pub(super) fn open(
    root: &Path,
    labels: &Path,
    options: &OpenOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Opened, DataError> {
    let broken = |reason: String| DataError::Labels { path: labels.into(), reason };
    let file = std::fs::metadata(labels).map_err(DataError::io(labels))?;
    if !file.is_file() {
        return Err(broken("it is no file".into()));
    }
    let bytes = file.len();
    if bytes > MOST_BYTES {
        return Err(broken(format!("it has {bytes} bytes, and a file of labels may have {MOST_BYTES}")));
    }
    let text = std::fs::read(labels).map_err(DataError::io(labels))?;
    let text = String::from_utf8(text).map_err(|_| broken("it is no text (UTF-8)".into()))?;
    let beside = labels.parent().unwrap_or(Path::new(""));
    let find = |path: &str| [root, beside].map(|folder| folder.join(path)).into_iter().find(|path| path.is_file());
    let group = options.group.as_deref();
    let table = read(&text, options.label_kind, group, |path| find(path).is_some()).map_err(&broken)?;

    let kind = options.label_kind.unwrap_or(match table.several {
        Some(_) => LabelKind::MultiLabel,
        None => LabelKind::Classification,
    });
    let mut lines: HashMap<PathBuf, u64> = HashMap::new();
    for row in &table.rows {
        if let Some(first) = lines.insert(plain(&row.path), row.line) {
            return Err(broken(format!("lines {first} and {} are both of {}", row.line, row.path)));
        }
    }
    let classes = match &table.columns {
        Some(columns) => columns.clone(),
        None => table.rows.iter().flat_map(|row| &row.classes).collect::<BTreeSet<_>>().into_iter().cloned().collect(),
    };
    if classes.is_empty() || classes.len() > MOST_CLASSES {
        return Err(broken(format!("it names {} classes: there are 1 to {MOST_CLASSES}", classes.len())));
    }
    let labels_of_all = labels_of(&table.rows, &classes, kind).map_err(&broken)?;
    // One that is missing is an image that cannot be read, counted and named as such.
    let files: Vec<PathBuf> =
        table.rows.iter().map(|row| find(&row.path).unwrap_or_else(|| root.join(&row.path))).collect();
    if !files.iter().any(|file| file.is_file()) {
        let path = &table.rows[0].path;
        return Err(broken(format!(
            "{path} of line {} is neither in {} nor in {}, and neither is any other image that it names",
            table.rows[0].line,
            root.display(),
            beside.display()
        )));
    }
    let groups = groups_of(&table.rows);
    let mut opened =
        read_images(&labels.display().to_string(), files, labels_of_all, groups, classes, options, progress)?;
    if let (Some(why), None) = (table.several, options.label_kind) {
        opened.findings.push(Finding::MultiLabel { path: labels.into(), why });
    }
    Ok(opened)
}

/// The path without steps that lead nowhere, as in `./a.png`.
fn plain(path: &str) -> PathBuf {
    Path::new(path).components().filter(|step| *step != Component::CurDir).collect()
}

/// What the text of a file of labels says, of whose columns `group` names the one of groups; `exists` tells of a path
/// whether there is such an image.
fn read(
    text: &str,
    kind: Option<LabelKind>,
    group: Option<&str>,
    exists: impl Fn(&str) -> bool,
) -> Result<Table, String> {
    let records = records(text)?;
    let Some((first_line, first)) = records.first() else { return Err("it is empty".into()) };
    let width = first.len();
    if let Some((line, record)) = records.iter().find(|(_, record)| record.len() != width) {
        return Err(format!("line {line} has {} columns, and line {first_line} has {width}", record.len()));
    }
    if width < 2 {
        return Err(format!("line {first_line} has one column: give a path and a class, as in cats/1.jpg,cat"));
    }
    let named = |names: &[&str]| first.iter().position(|cell| names.contains(&cell.to_lowercase().as_str()));
    let has_header = !first.iter().any(|cell| exists(cell) || has_image_name(Path::new(cell)));
    let path_at = if has_header { named(&PATHS).unwrap_or(0) } else { 0 };
    let rows = &records[usize::from(has_header)..];
    if rows.is_empty() {
        return Err("it has a header and no line after it".into());
    }
    let group_at = group.map(|group| group_column(first, has_header, path_at, group)).transpose()?;
    let others: Vec<usize> = (0..width).filter(|at| *at != path_at && Some(*at) != group_at).collect();
    let class_at = match others[..] {
        [] => return Err("it has a path and a group, and no class: that takes another column".into()),
        [only] => Some(only),
        _ if has_header => named(&CLASSES).filter(|at| others.contains(at)),
        _ => None,
    };
    let group_of = |line: u64, record: &[String]| match group_at {
        Some(at) if record[at].is_empty() => {
            Err(format!("line {line} has nothing in the column {}: each image needs its group", first[at]))
        }
        at => Ok(at.map(|at| record[at].clone())),
    };
    if let Some(at) = class_at {
        let cells: Vec<&str> = rows.iter().map(|(_, record)| record[at].as_str()).collect();
        let separator = separator(&cells, kind);
        let parts = |cell: &str| match separator {
            Some(separator) => {
                cell.split(separator).map(str::trim).filter(|part| !part.is_empty()).map(String::from).collect()
            }
            None if cell.is_empty() => Vec::new(),
            None => vec![cell.to_string()],
        };
        let row = |(line, record): &(u64, Vec<String>)| {
            let (path, group) = (record[path_at].clone(), group_of(*line, record)?);
            Ok(Row { line: *line, path, classes: parts(&record[at]), group })
        };
        let rows = rows.iter().map(row).collect::<Result<Vec<Row>, String>>()?;
        let line_of = |several: bool| {
            let unusual = |row: &&Row| if several { row.classes.len() > 1 } else { row.classes.is_empty() };
            rows.iter().find(unusual).map(|row| row.line)
        };
        let several = match (separator, line_of(true), line_of(false)) {
            (Some(separator), Some(line), _) => {
                Some(format!("line {line} has several classes, parted by {separator:?}"))
            }
            (_, _, Some(line)) => Some(format!("line {line} has none")),
            (Some(separator), ..) => Some(format!("{separator:?} parts classes")),
            (None, ..) => None,
        };
        return Ok(Table { rows, columns: None, several });
    }
    if !has_header {
        return Err(format!("line {first_line} has {width} columns and no line before it says what they are"));
    }
    let columns: Vec<(usize, &String)> = others.iter().map(|&at| (at, &first[at])).collect();
    let mut names = BTreeSet::new();
    if let Some((_, name)) = columns.iter().find(|(_, name)| name.is_empty() || !names.insert(*name)) {
        return Err(format!("line {first_line} calls two columns {name:?}, or one by no name: each is a class"));
    }
    let mut table = Vec::new();
    for (line, record) in rows {
        let mut classes = Vec::new();
        for (at, name) in &columns {
            match record[*at].to_lowercase().as_str() {
                "1" | "1.0" | "true" | "yes" => classes.push((*name).clone()),
                "0" | "0.0" | "false" | "no" | "" | "-1" => {}
                other => {
                    return Err(format!(
                        "line {line} has {other:?} in the column {name}: a column a class holds 1 and 0, and a column of \
                         classes is called label"
                    ));
                }
            }
        }
        let group = group_of(*line, record)?;
        table.push(Row { line: *line, path: record[path_at].clone(), classes, group });
    }
    let columns = columns.into_iter().map(|(_, name)| name.clone()).collect();
    Ok(Table { rows: table, columns: Some(columns), several: Some("each class has a column".into()) })
}

/// Which column has the groups, that is called `group`.
fn group_column(header: &[String], is_header: bool, path_at: usize, group: &str) -> Result<usize, String> {
    if !is_header {
        return Err(format!("it has no line that says what its columns are, and so no column {group} of `group`"));
    }
    let columns = || header.iter().enumerate().filter(|(at, _)| *at != path_at).map(|(at, name)| (at, name.as_str()));
    let found = columns().find(|(_, name)| *name == group).map(|(at, _)| at);
    found.ok_or_else(|| {
        let columns: Vec<&str> = columns().map(|(_, name)| name).collect();
        format!("it has no column {group:?} for `group`; its columns are {}", columns.join(", "))
    })
}

/// The groups of rows as numbers.
fn groups_of(rows: &[Row]) -> Option<Vec<u32>> {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut groups = Vec::with_capacity(rows.len());
    for row in rows {
        let next = numbers.len() as u32;
        groups.push(*numbers.entry(row.group.as_deref()?).or_insert(next));
    }
    Some(groups)
}

/// The lines of the text with what they hold, trimmed: separated by commas or tabs, else by the last space.
fn records(text: &str) -> Result<Vec<(u64, Vec<String>)>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(first) = text.lines().find(|line| !line.trim().is_empty()) else { return Ok(Vec::new()) };
    let Some(delimiter) = [',', '\t', ';'].into_iter().find(|delimiter| first.contains(*delimiter)) else {
        let filled = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let cells =
            |line: &str| line.trim().rsplitn(2, char::is_whitespace).map(|cell| cell.trim().to_string()).collect();
        return Ok(filled
            .map(|(line, number)| {
                let mut cells: Vec<String> = cells(line);
                cells.reverse();
                (number, cells)
            })
            .collect());
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter as u8)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut records = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        records.push((line, record.iter().map(String::from).collect()));
    }
    Ok(records)
}

/// What separates the classes of a cell, if anything does.
fn separator(cells: &[&str], kind: Option<LabelKind>) -> Option<char> {
    if kind == Some(LabelKind::Classification) {
        return None;
    }
    let found = SEPARATORS.into_iter().find(|separator| cells.iter().any(|cell| cell.contains(*separator)));
    // Names of classes may have spaces, so that these separate only where several classes are asked for.
    found.or(if kind == Some(LabelKind::MultiLabel) { Some(' ') } else { None })
}

/// The labels of rows as numbers.
fn labels_of(rows: &[Row], classes: &[String], kind: LabelKind) -> Result<Labels, String> {
    let numbers: HashMap<&str, usize> = classes.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    if kind == LabelKind::Classification {
        let label = |row: &Row| match &row.classes[..] {
            [class] => Ok(numbers[class.as_str()] as u32),
            [] => Err(format!("line {} gives {} no class", row.line, row.path)),
            several => Err(format!("line {} gives {} the classes {}", row.line, row.path, several.join(", "))),
        };
        return rows.iter().map(label).collect::<Result<Vec<u32>, String>>().map(Labels::Classes);
    }
    let width = classes.len();
    let count = rows.len().checked_mul(width).filter(|count| *count <= MOST_NUMBERS);
    let count = count.ok_or_else(|| {
        format!(
            "{} images of {width} classes are more than {MOST_NUMBERS} numbers, which is what labels may take",
            rows.len()
        )
    })?;
    let mut values = vec![0.0; count];
    for (row, values) in rows.iter().zip(values.chunks_mut(width)) {
        row.classes.iter().for_each(|class| values[numbers[class.as_str()]] = 1.0);
    }
    Ok(Labels::Rows { width, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of classes and labels of a text in which the images a.jpg and so on exist.
    fn labels(text: &str, kind: Option<LabelKind>) -> Result<(Vec<String>, Labels), String> {
        let table = read(text, kind, None, |_| false)?;
        let classes: BTreeSet<String> = table.rows.iter().flat_map(|row| row.classes.clone()).collect();
        let classes = table.columns.unwrap_or_else(|| classes.into_iter().collect());
        let kind =
            kind.unwrap_or(if table.several.is_some() { LabelKind::MultiLabel } else { LabelKind::Classification });
        let labels = labels_of(&table.rows, &classes, kind)?;
        Ok((classes, labels))
    }

    fn rows(width: usize, values: &[f32]) -> Labels {
        Labels::Rows { width, values: values.to_vec() }
    }

    #[test]
    fn a_path_and_a_class() {
        let expected = (vec!["cat".to_string(), "golden dog".to_string()], Labels::Classes(vec![1, 0]));
        for text in [
            "a.jpg,golden dog\nb.jpg,cat\n",
            "path,label\na.jpg,golden dog\n\nb.jpg, cat\n",
            "\u{feff}label,filename\r\ngolden dog,a.jpg\r\ncat,b.jpg\r\n",
            "image\tnotes\tclass\na.jpg\tblurred\tgolden dog\nb.jpg\t\tcat\n",
        ] {
            assert_eq!(labels(text, None).unwrap(), expected, "{text}");
        }
        let (classes, found) = labels("my a.jpg 1\nb.jpg 0\n", None).unwrap();
        assert_eq!((classes, found), (vec!["0".into(), "1".into()], Labels::Classes(vec![1, 0])));
    }

    #[test]
    fn several_classes_an_image() {
        let expected = (vec!["red".to_string(), "round".to_string()], rows(2, &[1.0, 1.0, 0.0, 0.0, 0.0, 1.0]));
        for text in [
            "a.jpg,red|round\nb.jpg,\nc.jpg,round\n",
            "path,tags\na.jpg,\"red, round\"\nb.jpg,\"\"\nc.jpg,round\n",
            "path,red,round\na.jpg,1,1\nb.jpg,0,0\nc.jpg,false,true\n",
        ] {
            assert_eq!(labels(text, None).unwrap(), expected, "{text}");
        }
        let spaced = labels("a.jpg,red round\nb.jpg,\nc.jpg,round\n", Some(LabelKind::MultiLabel)).unwrap();
        assert_eq!(spaced, expected);
    }

    #[test]
    fn a_column_of_groups_is_no_class() {
        let groups = |text: &str, column: &str| {
            let table = read(text, None, Some(column), |_| false)?;
            let classes: Vec<String> = table.rows.iter().map(|row| row.classes.join("|")).collect();
            Ok::<_, String>((groups_of(&table.rows).unwrap(), classes.join(" ")))
        };
        for text in [
            "path,patient,finding\na.jpg,p1,sick\nb.jpg,p2,well\nc.jpg,p1,sick\n",
            "patient,path,age,label\np1,a.jpg,30,sick\np2,b.jpg,40,well\np1,c.jpg,30,sick\n",
            "path,sick,well,patient\na.jpg,1,0,p1\nb.jpg,0,1,p2\nc.jpg,1,0,p1\n",
        ] {
            assert_eq!(groups(text, "patient").unwrap(), (vec![0, 1, 0], "sick well sick".into()), "{text}");
        }
        for (text, column, part) in [
            (
                "path,patient,label\na.jpg,p,sick\n",
                "camera",
                "no column \"camera\" for `group`; its columns are patient, label",
            ),
            ("path,patient,label\na.jpg,p,sick\nb.jpg,,well\n", "patient", "line 3 has nothing in the column patient"),
            ("a.jpg,p,sick\n", "patient", "no line that says what its columns are"),
            ("path,patient\na.jpg,p\n", "patient", "no class"),
        ] {
            let error = groups(text, column).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_is_named_with_its_line() {
        for (text, kind, part) in [
            ("", None, "empty"),
            ("path,label\n", None, "no line after"),
            ("a.jpg\n", None, "one column"),
            ("a.jpg,cat\nb.jpg\n", None, "line 2 has 1 columns"),
            ("a.jpg,cat,dog\n", None, "3 columns"),
            ("path,red,round\na.jpg,1,2\n", None, "line 2 has \"2\" in the column round"),
            ("a.jpg,cat\nb.jpg,\n", Some(LabelKind::Classification), "line 2 gives b.jpg no class"),
            ("path,red,red\na.jpg,1,1\n", None, "two columns \"red\""),
            ("path,red,round\na.jpg,1,1\n", Some(LabelKind::Classification), "the classes red, round"),
        ] {
            let error = labels(text, kind).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
