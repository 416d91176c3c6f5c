//! A read-only walker over a BTF blob: where a member lies, what an enumerator is, whether a function is there.
//!
//! Pure: bytes in, numbers out. It never trusts an offset, a count or a type id of the blob, so that no blob, however
//! corrupt, makes it panic or loop. Format: the kernel's `Documentation/bpf/btf.rst`.

use std::collections::HashSet;

const MAGIC: u16 = 0xeb9f;
/// Depth of anonymous members and of qualifiers that is followed.
const DEPTH: u32 = 16;

/// A blob whose types have been located.
#[derive(Debug)]
pub struct Btf<'b> {
    types: &'b [u8],
    strings: &'b [u8],
    /// Where each type begins in `types`; the type of id 1 is the first.
    starts: Vec<u32>,
}

/// Number of a type in its blob. 0 is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeId(u32);

/// What is wrong with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// It does not begin like a little-endian BTF blob.
    #[error("it is no BTF of this machine's byte order")]
    Magic,
    /// A section or type reaches past its end.
    #[error("it is cut short")]
    Short,
    /// A kind that this walker does not know, so that it cannot know where the next type begins.
    #[error("it has a type of the unknown kind {0}")]
    Kind(u32),
}

/// The shape of a type, qualifiers and typedefs removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A pointer to this.
    Pointer(TypeId),
    /// A struct or union.
    Composite(TypeId),
    /// An array.
    Array,
    /// Anything else.
    Other,
}

/// A member of a struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the beginning of the outermost struct.
    pub offset: u32,
    /// Its type.
    pub ty: TypeId,
}

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// The twelve bytes that every type begins with.
#[derive(Debug, Clone, Copy)]
struct Head {
    name: u32,
    kind: u32,
    count: u32,
    flag: bool,
    /// A size or a type, depending on the kind.
    value: u32,
    /// Where what follows the head begins.
    rest: usize,
}

impl<'b> Btf<'b> {
    /// Locates the types of a blob.
    pub fn parse(blob: &'b [u8]) -> Result<Self, BtfError> {
        let magic = blob.get(..2).ok_or(BtfError::Short)?;
        if magic != MAGIC.to_le_bytes() {
            return Err(BtfError::Magic);
        }
        let field = |at| word(blob, at).ok_or(BtfError::Short);
        let header = field(4)?;
        let section = |offset: u32, length: u32| {
            let start = usize::try_from(header.checked_add(offset)?).ok()?;
            blob.get(start..start.checked_add(usize::try_from(length).ok()?)?)
        };
        let types = section(field(8)?, field(12)?).ok_or(BtfError::Short)?;
        let strings = section(field(16)?, field(20)?).ok_or(BtfError::Short)?;
        let mut btf = Self { types, strings, starts: Vec::new() };
        let mut at = 0;
        while at < types.len() {
            let head = btf.head_at(at).ok_or(BtfError::Short)?;
            btf.starts.push(u32::try_from(at).map_err(|_| BtfError::Short)?);
            at = head.rest + following(&head)?;
        }
        if at == types.len() { Ok(btf) } else { Err(BtfError::Short) }
    }

    /// Whether the kernel has a function of this name.
    pub fn has_function(&self, name: &str) -> bool {
        self.heads().any(|(_, head)| head.kind == kind::FUNC && self.is_named(head.name, name))
    }

    /// The struct of this name that has members: never a forward declaration.
    pub fn structure(&self, name: &str) -> Option<TypeId> {
        self.heads()
            .find(|(_, head)| head.kind == kind::STRUCT && head.count > 0 && self.is_named(head.name, name))
            .map(|(id, _)| id)
    }

    /// An enumerator's value in the enum of this name.
    pub fn enumerator(&self, enumeration: &str, name: &str) -> Option<i64> {
        self.heads().find_map(|(_, head)| {
            let stride = match head.kind {
                kind::ENUM => 8,
                kind::ENUM64 => 12,
                _ => return None,
            };
            if !self.is_named(head.name, enumeration) {
                return None;
            }
            (0..head.count as usize).map(|nth| head.rest + nth * stride).find_map(|at| {
                let low = word(self.types, at + 4)?;
                let value = if stride == 8 {
                    i64::from(low.cast_signed())
                } else {
                    (u64::from(word(self.types, at + 8)?) << 32 | u64::from(low)).cast_signed()
                };
                self.is_named(word(self.types, at)?, name).then_some(value)
            })
        })
    }

    /// A member by its path, each step in the struct that the one before it embeds. Never follows pointers.
    pub fn member(&self, structure: TypeId, path: &[&str]) -> Option<Member> {
        let mut found = Member { offset: 0, ty: structure };
        for name in path {
            let Shape::Composite(ty) = self.shape(found.ty) else { return None };
            let step = self.direct(ty, name, DEPTH, &mut HashSet::new())?;
            found = Member { offset: found.offset.checked_add(step.offset)?, ty: step.ty };
        }
        Some(found)
    }

    /// What a type is behind its typedefs and qualifiers.
    pub fn shape(&self, ty: TypeId) -> Shape {
        let mut id = ty;
        for _ in 0..DEPTH {
            let Some(head) = self.head(id) else { break };
            match head.kind {
                kind::PTR => return Shape::Pointer(TypeId(head.value)),
                kind::STRUCT | kind::UNION => return Shape::Composite(id),
                kind::ARRAY => return Shape::Array,
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = TypeId(head.value);
                }
                _ => break,
            }
        }
        Shape::Other
    }

    /// A member of this struct or of its anonymous members. `seen` stops the recursion on cyclic, corrupt BTF.
    fn direct(&self, ty: TypeId, name: &str, depth: u32, seen: &mut HashSet<TypeId>) -> Option<Member> {
        let head = self.head(ty)?;
        if depth == 0 || !matches!(head.kind, kind::STRUCT | kind::UNION) || !seen.insert(ty) {
            return None;
        }
        (0..head.count as usize).map(|nth| head.rest + nth * 12).find_map(|at| {
            let (member, inner) = (word(self.types, at)?, TypeId(word(self.types, at + 4)?));
            let bits = word(self.types, at + 8)?;
            // With the flag, the upper byte is the size of a bit field: none is ever asked for.
            let bits = if head.flag { bits & 0x00ff_ffff } else { bits };
            if self.is_named(member, name) {
                return (bits % 8 == 0).then_some(Member { offset: bits / 8, ty: inner });
            }
            if !self.is_named(member, "") {
                return None;
            }
            let Shape::Composite(inner) = self.shape(inner) else { return None };
            let below = self.direct(inner, name, depth - 1, seen)?;
            Some(Member { offset: below.offset.checked_add(bits / 8)?, ty: below.ty })
        })
    }

    fn heads(&self) -> impl Iterator<Item = (TypeId, Head)> + '_ {
        (1u32..)
            .zip(&self.starts)
            .filter_map(|(id, start)| Some((TypeId(id), self.head_at(*start as usize)?)))
    }

    fn head(&self, id: TypeId) -> Option<Head> {
        let index = usize::try_from(id.0.checked_sub(1)?).ok()?;
        self.head_at(*self.starts.get(index)? as usize)
    }

    fn head_at(&self, at: usize) -> Option<Head> {
        let info = word(self.types, at + 4)?;
        Some(Head {
            name: word(self.types, at)?,
            kind: info >> 24 & 0x1f,
            count: info & 0xffff,
            flag: info >> 31 == 1,
            value: word(self.types, at + 8)?,
            rest: at + 12,
        })
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        let text = self.strings.get(offset as usize..).and_then(|text| text.strip_prefix(name.as_bytes()));
        text.is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// Bytes that follow a type's head.
fn following(head: &Head) -> Result<usize, BtfError> {
    let count = head.count as usize;
    Ok(match head.kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => count * 12,
        kind::ENUM | kind::FUNC_PROTO => count * 8,
        kind::PTR
        | kind::FWD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNC
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        unknown => return Err(BtfError::Kind(unknown)),
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod sample;
#[cfg(test)]
mod tests;
