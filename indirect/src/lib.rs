//! Makes the calls of a WebAssembly module go through its table.
//!
//! Envoy has V8 compile a whole module with its optimising compiler before the proxy is ready. V8 then knows nothing of
//! how often anything is called, and copies the functions that are called directly into their callers, whatever their
//! size, until a caller is three times as large (`InliningTree::NoLiftoffBudget` in V8's `src/wasm/inlining-tree.h`).
//! rustc has inlined what is worth it before, so that V8 compiles allocations and error messages hundreds of times over,
//! the proxy starts later, and each of these copies takes memory. A call through the table it leaves alone.
//!
//! ```text
//! call $f     becomes     i32.const <place of $f in the table>   call_indirect (type of $f)
//! ```
//!
//! Where requests pass, smaller functions are still called directly: there a copy is worth its size. Nothing else of the
//! module changes, and the same module gives the same bytes every time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, ElementSection, Elements, Instruction, Module, RefType, TableSection, TableType,
};
use wasmparser::{FunctionBody, Operator, Parser, Payload, TypeRef};

/// Bytes from which on a function is called through the table where requests pass: its locals and code. Copies of smaller
/// ones make requests faster.
const BYTES_MIN: usize = 150;

/// The callbacks of a request. What only others lead to, such as reading the configuration, has all its calls go through
/// the table.
const OF_REQUESTS: [&str; 6] = [
    "proxy_on_context_create",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_log",
    "proxy_on_delete",
    "proxy_on_memory_allocate",
];

/// Why a module cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is no WebAssembly module, or breaks off.
    Unreadable,
    /// It has another table than one of functions, of its own, and of a size that does not change.
    Table,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unreadable => "not a readable WebAssembly module",
            Self::Table => "the module has another table than one of functions, of its own and of one size",
        })
    }
}

impl std::error::Error for Error {}

impl From<wasmparser::BinaryReaderError> for Error {
    fn from(_: wasmparser::BinaryReaderError) -> Self {
        Self::Unreadable
    }
}

/// Rewrites a module file: the new one lies beside it, with `.indirect` in its name. It is there whole or not at all, so
/// that several programs can do this at once.
///
/// # Errors
/// A file cannot be read or written, or [`rewrite`] refuses it: kind `InvalidData`.
pub fn rewrite_file(module: &Path) -> io::Result<PathBuf> {
    let rewritten = rewrite(&fs::read(module)?).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
    let unfinished = module.with_extension(format!("{}.wasm", std::process::id()));
    fs::write(&unfinished, rewritten)?;
    let finished = module.with_extension("indirect.wasm");
    fs::rename(&unfinished, &finished)?;
    Ok(finished)
}

/// The same module, in which larger functions are called through the table. One without a table stays as it is.
///
/// # Errors
/// The bytes are no module, or its table is not one that can be made larger.
pub fn rewrite(module: &[u8]) -> Result<Vec<u8>, Error> {
    let Some(mut calls) = Calls::survey(module)? else { return Ok(module.to_vec()) };
    let mut rewritten = Module::new();
    calls.parse_core_module(&mut rewritten, Parser::new(0), module).map_err(|_| Error::Unreadable)?;
    Ok(rewritten.finish())
}

/// Which functions are called through the table, and where they stand in it.
struct Calls {
    /// Places of the table that are taken already.
    first: u32,
    /// By the function's number: its place in the table, and its type.
    places: BTreeMap<u32, (u32, u32)>,
    /// Functions that requests lead to, and those among them that are called through the table even there.
    of_requests: BTreeSet<u32>,
    large: BTreeSet<u32>,
    /// The function whose body comes next.
    next: u32,
}

/// What a module says of its functions.
#[derive(Default)]
struct Survey {
    /// Functions of the host, which come first.
    imported: u32,
    types: Vec<u32>,
    sizes: Vec<usize>,
    /// By function: which others it calls directly.
    calls: Vec<Vec<u32>>,
    /// Functions that requests begin with.
    roots: Vec<u32>,
    tables: Vec<wasmparser::TableType>,
    has_elements: bool,
}

impl Survey {
    fn of(module: &[u8]) -> Result<Self, Error> {
        let mut survey = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            survey.add(payload?)?;
        }
        Ok(survey)
    }

    fn add(&mut self, payload: Payload<'_>) -> Result<(), Error> {
        if let Payload::ImportSection(section) = payload {
            for import in section.into_imports() {
                let import = import?.ty;
                self.imported += u32::from(matches!(import, TypeRef::Func(_)));
                if matches!(import, TypeRef::Table(_)) {
                    return Err(Error::Table);
                }
            }
        } else if let Payload::FunctionSection(section) = payload {
            self.types = section.into_iter().collect::<Result<_, _>>()?;
        } else if let Payload::TableSection(section) = payload {
            self.tables = section.into_iter().map(|table| table.map(|table| table.ty)).collect::<Result<_, _>>()?;
        } else if let Payload::ExportSection(section) = payload {
            for export in section {
                let export = export?;
                self.roots.extend(OF_REQUESTS.contains(&export.name).then_some(export.index));
            }
        } else if let Payload::ElementSection(_) = payload {
            self.has_elements = true;
        } else if let Payload::CodeSectionEntry(body) = payload {
            self.sizes.push(body.range().len());
            self.calls.push(called(&body)?);
        }
        Ok(())
    }

    /// The number of the function with this body.
    fn number(&self, position: usize) -> u32 {
        self.imported.saturating_add(u32::try_from(position).unwrap_or(u32::MAX))
    }

    /// Functions that requests lead to by direct calls. What is called through the table is left out: it is no more
    /// copied there than here.
    fn of_requests(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut open = self.roots.clone();
        while let Some(function) = open.pop() {
            let position = function.checked_sub(self.imported).and_then(|position| usize::try_from(position).ok());
            let Some(calls) = position.and_then(|position| self.calls.get(position)) else { continue };
            if found.insert(function) {
                open.extend(calls);
            }
        }
        found
    }
}

/// The functions that a body calls directly.
fn called(body: &FunctionBody<'_>) -> Result<Vec<u32>, Error> {
    let mut called = Vec::new();
    for operator in body.get_operators_reader()? {
        if let Operator::Call { function_index } = operator? {
            called.push(function_index);
        }
    }
    Ok(called)
}

impl Calls {
    /// `None` when the module has no table, or puts nothing into it.
    fn survey(module: &[u8]) -> Result<Option<Self>, Error> {
        let survey = Survey::of(module)?;
        let table = match survey.tables.as_slice() {
            [] => return Ok(None),
            [table] => *table,
            _ => return Err(Error::Table),
        };
        let is_fixed = table.maximum == Some(table.initial) && !table.table64 && table.element_type.is_func_ref();
        let first = u32::try_from(table.initial).ok().filter(|_| is_fixed).ok_or(Error::Table)?;
        let places = (first..).zip(&survey.types).enumerate();
        let places = places.map(|(position, (place, kind))| (survey.number(position), (place, *kind))).collect();
        let is_large = |(position, size): (usize, &usize)| (*size >= BYTES_MIN).then(|| survey.number(position));
        let calls = Self {
            first,
            places,
            of_requests: survey.of_requests(),
            large: survey.sizes.iter().enumerate().filter_map(is_large).collect(),
            next: survey.imported,
        };
        Ok(survey.has_elements.then_some(calls))
    }

    /// The place and the type of a function, when this call of it goes through the table.
    fn through_table(&self, caller: u32, function: u32) -> Option<(u32, u32)> {
        let is_direct = self.of_requests.contains(&caller) && !self.large.contains(&function);
        self.places.get(&function).copied().filter(|_| !is_direct)
    }
}

impl Reencode for Calls {
    type Error = std::convert::Infallible;

    fn parse_table_section(
        &mut self,
        tables: &mut TableSection,
        _: wasmparser::TableSectionReader<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        let size = u64::from(self.first) + self.places.len() as u64;
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            minimum: size,
            maximum: Some(size),
            table64: false,
            shared: false,
        });
        Ok(())
    }

    fn parse_element_section(
        &mut self,
        elements: &mut ElementSection,
        section: wasmparser::ElementSectionReader<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        utils::parse_element_section(self, elements, section)?;
        let functions: Vec<u32> = self.places.keys().copied().collect();
        elements.active(None, &ConstExpr::i32_const(self.first.cast_signed()), Elements::Functions(functions.into()));
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        let caller = self.next;
        self.next += 1;
        let mut function = self.new_function_with_parsed_locals(&body)?;
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            let place = if let Operator::Call { function_index } = operator {
                self.through_table(caller, function_index)
            } else {
                None
            };
            if let Some((place, type_index)) = place {
                function.instruction(&Instruction::I32Const(place.cast_signed()));
                function.instruction(&Instruction::CallIndirect { type_index, table_index: 0 });
            } else {
                function.instruction(&self.instruction(operator)?);
            }
        }
        code.function(&function);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Store};

    use super::*;

    /// A module whose functions are called by a request, by a configuration, and by a table's user.
    fn module(table: &str) -> Vec<u8> {
        let padding = "(local.set 1 (i32.add (local.get 1) (i32.const 1)))".repeat(40);
        let text = format!(
            r#"(module
                (type $binary (func (param i32) (result i32)))
                {table}
                (func $small (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
                (func $large (param i32) (result i32) (local i32) {padding}
                    (i32.add (local.get 0) (local.get 1)))
                (func (export "proxy_on_log") (param i32) (result i32) (call $step (local.get 0)))
                (func $step (param i32) (result i32) (call $large (call $small (call $large (local.get 0)))))
                (func (export "proxy_on_configure") (param i32) (result i32) (call $small (call $large (local.get 0))))
                (func (export "through") (param i32 i32) (result i32)
                    (call_indirect (type $binary) (local.get 1) (local.get 0))))"#
        );
        wat::parse_str(text).unwrap()
    }

    const TABLE: &str = "(table 2 2 funcref) (elem (i32.const 1) func $small)";

    /// How many functions are called directly, and how many through a table.
    fn calls(module: &[u8]) -> (usize, usize) {
        let (mut direct, mut indirect) = (0, 0);
        for payload in Parser::new(0).parse_all(module) {
            let Payload::CodeSectionEntry(body) = payload.unwrap() else { continue };
            for operator in body.get_operators_reader().unwrap() {
                let operator = operator.unwrap();
                direct += usize::from(matches!(operator, Operator::Call { .. }));
                indirect += usize::from(matches!(operator, Operator::CallIndirect { .. }));
            }
        }
        (direct, indirect)
    }

    fn run(module: &[u8], function: &str, arguments: &[i32]) -> i32 {
        let engine = Engine::default();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &wasmtime::Module::new(&engine, module).unwrap(), &[]).unwrap();
        let function = instance.get_func(&mut store, function).unwrap();
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).into()).collect();
        let mut results = [wasmtime::Val::I32(0)];
        function.call(&mut store, &arguments, &mut results).unwrap();
        results[0].unwrap_i32()
    }

    #[test]
    fn small_functions_are_called_directly_where_requests_pass_and_all_others_through_the_table() {
        let before = module(TABLE);
        let after = rewrite(&before).unwrap();
        // What stays is the step and what is small in it.
        assert_eq!((calls(&before), calls(&after)), ((6, 1), (2, 5)));
    }

    #[test]
    fn the_module_does_what_it_did() {
        let before = module(TABLE);
        let after = rewrite(&before).unwrap();
        for module in [before, after] {
            assert_eq!(run(&module, "proxy_on_log", &[1]), 122);
            assert_eq!(run(&module, "proxy_on_configure", &[1]), 82);
            assert_eq!(run(&module, "through", &[1, 21]), 42);
        }
    }

    #[test]
    fn a_module_without_a_table_stays_as_it_is() {
        let before = wat::parse_str("(module (func (export \"run\")))").unwrap();
        assert_eq!(rewrite(&before), Ok(before));
    }

    #[test]
    fn what_cannot_be_rewritten_is_refused() {
        for (table, why) in [
            ("(table 2 3 funcref)", Error::Table),
            ("(table 2 funcref)", Error::Table),
            ("(table 2 2 funcref) (table 2 2 funcref)", Error::Table),
            ("(import \"env\" \"table\" (table 2 2 funcref))", Error::Table),
        ] {
            assert_eq!(rewrite(&module(table)), Err(why), "{table}");
        }
        let whole = module(TABLE);
        assert_eq!(rewrite(&whole[..whole.len() - 1]), Err(Error::Unreadable));
        assert_eq!(rewrite(b"no module"), Err(Error::Unreadable));
    }

    #[test]
    fn a_file_is_rewritten_beside_itself() {
        let folder = std::env::temp_dir().join(format!("indirect-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("a.wasm");
        fs::write(&file, module(TABLE)).unwrap();
        let rewritten = rewrite_file(&file).unwrap();
        assert_eq!(rewritten, folder.join("a.indirect.wasm"));
        assert_eq!(fs::read(&rewritten).unwrap(), rewrite(&module(TABLE)).unwrap());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::remove_dir_all(&folder).unwrap();
    }
}
