//! Python's pickles, as far as state dicts need them.
//!
//! A pickle is a program for a machine with a stack, and in Python it may import and call anything. This machine knows the
//! instructions that build numbers, strings, tuples, lists and dicts, and of what can be imported only what a state dict is
//! made of: `collections.OrderedDict`, storages, and the functions that make tensors and parameters of them, none of which it
//! runs: it takes down what they are given. Any other name is an error.
//!
//! Values lie in an arena and refer to each other by number, so that however deeply a pickle nests them nothing recurses.

use std::collections::HashMap;

use super::Element;

/// Number of a value.
pub type Id = usize;

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// A whole number.
    Int(i64),
    /// A string.
    Text(&'a str),
    /// A tuple or list.
    Sequence(Vec<Id>),
    /// A dict, of keys and values.
    Dict(Vec<(Id, Id)>),
    /// Something that was imported.
    Global(Global<'a>),
    /// A storage.
    Storage(Storage<'a>),
    /// A tensor.
    Tensor(Tensor<'a>),
    /// What says nothing of a tensor: None, booleans, floats, bytes.
    Other,
}

/// What a pickle may import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Global<'a> {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// A class of storages, such as `FloatStorage`.
    Storage(&'a str),
}

/// A flat piece of memory.
#[derive(Clone, Debug)]
pub struct Storage<'a> {
    pub element: Element,
    /// Its name in the file.
    pub key: &'a str,
    pub elements: usize,
}

/// A view of a storage.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    pub storage: Storage<'a>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// The values that a pickle makes, and which of them is the result.
pub struct Unpickled<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Unpickled<'a> {
    pub fn root(&self) -> &Value<'a> {
        &self.values[self.root]
    }

    pub fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id]
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        self.values.iter()
    }

    /// The string that a value is.
    pub fn text(&self, id: Id) -> Option<&'a str> {
        if let Value::Text(text) = self.get(id) { Some(text) } else { None }
    }
}

/// Runs the pickle at the beginning of `bytes`, and gives how long it is too.
pub fn load(bytes: &[u8]) -> Result<(Unpickled<'_>, usize), String> {
    let (values, stack, marks, memo) = (Vec::new(), Vec::new(), Vec::new(), HashMap::new());
    let mut machine = Machine { bytes, at: 0, values, stack, marks, memo, copied: 0 };
    loop {
        if let Some(root) = machine.step()? {
            return Ok((Unpickled { values: machine.values, root }, machine.at));
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Values that were copied from one sequence to another.
    copied: usize,
}

fn damaged() -> String {
    "is damaged: its pickle is cut short or makes no sense; download or save it again".into()
}

impl<'a> Machine<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).ok_or_else(damaged)?;
        let bytes = self.bytes.get(self.at..end).ok_or_else(damaged)?;
        self.at = end;
        Ok(bytes)
    }

    /// An unsigned little-endian number of so many bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, String> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, String> {
        usize::try_from(self.number(bytes)?).map_err(|_| damaged())
    }

    fn text(&mut self, length: usize) -> Result<&'a str, String> {
        std::str::from_utf8(self.take(length)?).map_err(|_| damaged())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let length = self.bytes[self.at..].iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
        let line = self.text(length)?;
        self.at += 1;
        Ok(line)
    }

    fn push(&mut self, value: Value<'a>) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    fn pop(&mut self) -> Result<Id, String> {
        let above = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= above {
            return Err(damaged());
        }
        self.stack.pop().ok_or_else(damaged)
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(damaged)
    }

    /// What was pushed since the last mark.
    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or_else(damaged)?;
        if mark > self.stack.len() {
            return Err(damaged());
        }
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, number: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(number, top);
        Ok(())
    }

    fn recall(&mut self, number: u64) -> Result<(), String> {
        let number = u32::try_from(number).map_err(|_| damaged())?;
        let id = *self.memo.get(&number).ok_or_else(damaged)?;
        self.stack.push(id);
        Ok(())
    }

    fn sequence(&mut self, count: usize) -> Result<(), String> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push(Value::Sequence(items));
        Ok(())
    }

    fn append(&mut self, new: &[Id]) -> Result<(), String> {
        match &mut self.values[*self.stack.last().ok_or_else(damaged)?] {
            Value::Sequence(items) => items.extend(new),
            Value::Other => {}
            _ => return Err(damaged()),
        }
        Ok(())
    }

    fn set_items(&mut self, new: &[Id]) -> Result<(), String> {
        if new.len() % 2 == 1 {
            return Err(damaged());
        }
        let Value::Dict(items) = &mut self.values[*self.stack.last().ok_or_else(damaged)?] else {
            return Err(damaged());
        };
        items.extend(new.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    /// One instruction; the result after the last one.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let code = self.take(1)?[0];
        match code {
            // Protocol and frame: they say nothing of the value.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b'J' => {
                let number = self.number(4)? as u32 as i32;
                self.push(Value::Int(number.into()));
            }
            b'K' | b'M' => {
                let number = self.number(if code == b'K' { 1 } else { 2 })?;
                self.push(Value::Int(number as i64));
            }
            0x8a | 0x8b => {
                let length = self.length(if code == 0x8a { 1 } else { 4 })?;
                let value = long(self.take(length)?);
                self.push(value);
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Other);
            }
            b'X' | 0x8c | 0x8d | b'U' | b'T' => {
                let length = self.length(match code {
                    0x8c | b'U' => 1,
                    0x8d => 8,
                    _ => 4,
                })?;
                let text = self.text(length)?;
                self.push(Value::Text(text));
            }
            b'C' | b'B' | 0x8e => {
                let length = self.length(match code {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                })?;
                self.take(length)?;
                self.push(Value::Other);
            }
            b')' | b']' => self.push(Value::Sequence(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b't' | b'l' => {
                let items = self.since_mark()?;
                self.push(Value::Sequence(items));
            }
            b'd' => {
                let items = self.since_mark()?;
                self.push(Value::Dict(Vec::new()));
                self.set_items(&items)?;
            }
            0x85..=0x87 => self.sequence(usize::from(code - 0x84))?,
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set_items(&items)?;
            }
            b'q' | b'r' => {
                let number = self.number(if code == b'q' { 1 } else { 4 })?;
                self.remember(number as u32)?;
            }
            0x94 => self.remember(u32::try_from(self.memo.len()).map_err(|_| damaged())?)?,
            b'h' | b'j' => {
                let number = self.number(if code == b'h' { 1 } else { 4 })?;
                self.recall(number)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(global(module, name)?);
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name]) else {
                    return Err(damaged());
                };
                let value = global(module, name)?;
                self.push(value);
            }
            b'Q' => {
                let id = self.pop()?;
                let value = self.storage(id)?;
                self.push(value);
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.call(function, arguments)?;
            }
            // The attributes of a dict or tensor: of no use here.
            b'b' => drop(self.pop()?),
            other => {
                return Err(format!(
                    "holds a pickle with the instruction {other:#04x} at byte {}, which state dicts do not need: it is \
                     damaged, or no state dict; save the weights alone, by torch.save(model.state_dict(), FILE)",
                    self.at - 1
                ));
            }
        }
        Ok(None)
    }

    fn items(&self, id: Id) -> Result<&[Id], String> {
        if let Value::Sequence(items) = &self.values[id] { Ok(items) } else { Err(damaged()) }
    }

    fn size(&self, id: Id) -> Result<usize, String> {
        if let Value::Int(number) = self.values[id] {
            usize::try_from(number).map_err(|_| damaged())
        } else {
            Err(damaged())
        }
    }

    fn sizes(&mut self, id: Id) -> Result<Vec<usize>, String> {
        self.copy(id)?.iter().map(|id| self.size(*id)).collect()
    }

    /// The items of a sequence. Copies of one over and over would make much memory of a small file.
    fn copy(&mut self, id: Id) -> Result<Vec<Id>, String> {
        let items = self.items(id)?.to_vec();
        self.copied += items.len();
        if self.copied > self.bytes.len() { Err(damaged()) } else { Ok(items) }
    }

    /// `('storage', class, key, device, elements)`, and of files before 1.6 one more.
    fn storage(&self, id: Id) -> Result<Value<'a>, String> {
        let &[kind, class, key, _, elements, ..] = self.items(id)? else { return Err(damaged()) };
        match (&self.values[kind], &self.values[class], &self.values[key]) {
            (Value::Text("storage"), Value::Global(Global::Storage(class)), Value::Text(key)) => {
                let element = match *class {
                    "FloatStorage" => Element::F32,
                    "HalfStorage" => Element::F16,
                    "BFloat16Storage" => Element::Bf16,
                    "DoubleStorage" => Element::F64,
                    "LongStorage" => Element::Other("i64".into(), 8),
                    "IntStorage" => Element::Other("i32".into(), 4),
                    "ShortStorage" => Element::Other("i16".into(), 2),
                    other => Element::Other(other.to_string(), 1),
                };
                Ok(Value::Storage(Storage { element, key, elements: self.size(elements)? }))
            }
            _ => Err(damaged()),
        }
    }

    /// What one of the known functions makes of its arguments.
    fn call(&mut self, function: Id, arguments: Id) -> Result<(), String> {
        let Value::Global(function) = self.values[function].clone() else { return Err(damaged()) };
        let arguments: Vec<Id> = self.items(arguments)?.iter().copied().take(4).collect();
        match (function, &arguments[..]) {
            (Global::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            (Global::OrderedDict, [pairs]) => {
                let mut items = Vec::new();
                for pair in self.copy(*pairs)? {
                    let &[key, value] = self.items(pair)? else { return Err(damaged()) };
                    items.push((key, value));
                }
                self.push(Value::Dict(items));
            }
            (Global::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                let Value::Storage(storage) = self.values[*storage].clone() else { return Err(damaged()) };
                let (shape, strides) = (self.sizes(*shape)?, self.sizes(*strides)?);
                let offset = self.size(*offset)?;
                self.push(Value::Tensor(Tensor { storage, offset, shape, strides }));
            }
            (Global::RebuildParameter, [tensor, ..]) => self.stack.push(*tensor),
            _ => return Err(damaged()),
        }
        Ok(())
    }
}

/// A whole number of any length; one that no size can be where it is longer than 8 bytes.
fn long<'a>(bytes: &[u8]) -> Value<'a> {
    if bytes.len() > 8 {
        return Value::Other;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(all))
}

fn global<'a>(module: &'a str, name: &'a str) -> Result<Value<'a>, String> {
    let global = match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        // Before 0.4, without gradients.
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", name) if name.ends_with("Storage") => Global::Storage(name),
        _ => {
            return Err(format!(
                "holds a pickle that asks for {module}.{name}, which weights do not need, and of which nothing was run: save \
                 the weights alone, by torch.save(model.state_dict(), FILE)"
            ));
        }
    };
    Ok(Value::Global(global))
}
