//! A small assembler for eBPF (RFC 9669): typed registers, sizes and conditions, and labels.
//!
//! Programs are written as Rust functions that emit instructions, so that offsets and constants are those of the
//! structures that the daemon fills in.

use super::sys::MapFd;

/// Registers. R0 takes results, R1 to R5 arguments (lost in a call), R6 to R9 stay, R10 is the frame pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Reg {
    R0 = 0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// Width of a memory access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Size {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Double = 0x18,
}

/// Arithmetic on 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Alu {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Div = 0x30,
    Or = 0x40,
    And = 0x50,
    Lsh = 0x60,
    Rsh = 0x70,
    Mod = 0x90,
    Xor = 0xa0,
    Mov = 0xb0,
}

/// Unsigned comparisons of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cond {
    Eq = 0x10,
    Gt = 0x20,
    Ge = 0x30,
    Ne = 0x50,
    Lt = 0xa0,
    Le = 0xb0,
}

/// Functions of the kernel, by their numbers in `enum bpf_func_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Helper {
    MapLookup = 1,
    ProcessorId = 8,
    StoreBytes = 9,
    LoadBytes = 26,
    AdjustRoom = 50,
    FibLookup = 69,
    RedirectNeigh = 152,
    CoarseNanoseconds = 160,
}

/// Second operand: a register, or a number that is extended to 64 bits with its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    Reg(Reg),
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(number: i32) -> Self {
        Self::Imm(number)
    }
}

/// A place in a program that jumps lead to, bound later or earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Why a program cannot be assembled: a mistake in it, not in its input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AsmError {
    #[error("label {0} is jumped to, but stands nowhere")]
    Unbound(usize),
    #[error("the jump at instruction {0} is too far")]
    TooFar(usize),
}

const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_ALU: u8 = 0x04;
const CLASS_JMP: u8 = 0x05;
const CLASS_ALU64: u8 = 0x07;
const SOURCE_REG: u8 = 0x08;
const MODE_MEM: u8 = 0x60;
const MODE_ATOMIC: u8 = 0xc0;
const JUMP_ALWAYS: u8 = 0x00;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
const ALU_END: u8 = 0xd0;
const TO_BIG_ENDIAN: u8 = 0x08;
const PSEUDO_MAP_FD: u8 = 1;
const PSEUDO_MAP_VALUE: u8 = 2;

/// A program that is being written.
#[derive(Debug, Default)]
pub(super) struct Asm {
    insns: Vec<Insn>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Asm {
    /// A label that is not bound yet.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Binds a label to the next instruction.
    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.insns.len());
    }

    fn push(&mut self, code: u8, dst: Reg, src: u8, offset: i16, immediate: i32) {
        self.insns.push(Insn {
            code,
            registers: if cfg!(target_endian = "little") {
                src << 4 | dst as u8
            } else {
                (dst as u8) << 4 | src
            },
            offset,
            immediate,
        });
    }

    fn with_operand(&mut self, code: u8, dst: Reg, operand: Operand, offset: i16) {
        match operand {
            Operand::Reg(src) => self.push(code | SOURCE_REG, dst, src as u8, offset, 0),
            Operand::Imm(number) => self.push(code, dst, 0, offset, number),
        }
    }

    /// `dst = dst OP operand`, 64 bits.
    pub(super) fn alu(&mut self, alu: Alu, dst: Reg, operand: impl Into<Operand>) {
        self.with_operand(CLASS_ALU64 | alu as u8, dst, operand.into(), 0);
    }

    /// `dst = operand`.
    pub(super) fn mov(&mut self, dst: Reg, operand: impl Into<Operand>) {
        self.alu(Alu::Mov, dst, operand);
    }

    /// Between network order and host order, of the lowest 16 or 32 bits; the others become zero.
    pub(super) fn big_endian(&mut self, dst: Reg, bits: i32) {
        self.push(CLASS_ALU | ALU_END | TO_BIG_ENDIAN, dst, 0, 0, bits);
    }

    /// `dst = *(base + offset)`.
    pub(super) fn load(&mut self, size: Size, dst: Reg, base: Reg, offset: i16) {
        self.push(
            CLASS_LDX | MODE_MEM | size as u8,
            dst,
            base as u8,
            offset,
            0,
        );
    }

    /// `*(base + offset) = value`.
    pub(super) fn store(&mut self, size: Size, base: Reg, offset: i16, value: impl Into<Operand>) {
        match value.into() {
            Operand::Reg(src) => {
                self.push(
                    CLASS_STX | MODE_MEM | size as u8,
                    base,
                    src as u8,
                    offset,
                    0,
                );
            }
            Operand::Imm(number) => {
                self.push(CLASS_ST | MODE_MEM | size as u8, base, 0, offset, number);
            }
        }
    }

    /// `*(base + offset) += value`, 64 bits, as one step for all processors.
    pub(super) fn atomic_add(&mut self, base: Reg, offset: i16, value: Reg) {
        let code = CLASS_STX | MODE_ATOMIC | Size::Double as u8;
        self.push(code, base, value as u8, offset, Alu::Add as i32);
    }

    fn wide(&mut self, dst: Reg, pseudo: u8, low: i32, high: i32) {
        self.push(CLASS_LD | Size::Double as u8, dst, pseudo, 0, low);
        self.push(0, Reg::R0, 0, 0, high);
    }

    /// `dst = number`.
    pub(super) fn imm64(&mut self, dst: Reg, number: u64) {
        self.wide(dst, 0, number as i32, (number >> 32) as i32);
    }

    /// `dst =` a map, as an argument for a look-up.
    pub(super) fn map(&mut self, dst: Reg, map: MapFd) {
        self.wide(dst, PSEUDO_MAP_FD, map.0, 0);
    }

    /// `dst =` the address of the only value of an array.
    pub(super) fn map_value(&mut self, dst: Reg, map: MapFd) {
        self.wide(dst, PSEUDO_MAP_VALUE, map.0, 0);
    }

    /// Calls a function of the kernel.
    pub(super) fn call(&mut self, helper: Helper) {
        self.push(CLASS_JMP | CALL, Reg::R0, 0, 0, helper as i32);
    }

    /// Goes on at a label.
    pub(super) fn jump(&mut self, label: Label) {
        self.jumps.push((self.insns.len(), label));
        self.push(CLASS_JMP | JUMP_ALWAYS, Reg::R0, 0, 0, 0);
    }

    /// Goes on at a label where `left COND right`.
    pub(super) fn jump_if(
        &mut self,
        cond: Cond,
        left: Reg,
        right: impl Into<Operand>,
        label: Label,
    ) {
        self.jumps.push((self.insns.len(), label));
        self.with_operand(CLASS_JMP | cond as u8, left, right.into(), 0);
    }

    /// Ends the program with R0.
    pub(super) fn exit(&mut self) {
        self.push(CLASS_JMP | EXIT, Reg::R0, 0, 0, 0);
    }

    /// The instructions, with every jump worked out.
    ///
    /// # Errors
    /// A label that was never bound; a jump over more than 32767 instructions.
    pub(super) fn finish(mut self) -> Result<Vec<Insn>, AsmError> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0].ok_or(AsmError::Unbound(label.0))?;
            let distance = target as i64 - at as i64 - 1;
            self.insns[at].offset = i16::try_from(distance).map_err(|_| AsmError::TooFar(at))?;
        }
        Ok(self.insns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(insn: Insn) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[0] = insn.code;
        bytes[1] = insn.registers;
        bytes[2..4].copy_from_slice(&insn.offset.to_le_bytes());
        bytes[4..].copy_from_slice(&insn.immediate.to_le_bytes());
        bytes
    }

    /// Against the encodings that RFC 9669 gives for a little-endian machine.
    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_encoded_as_the_kernel_reads_them() {
        let mut a = Asm::default();
        let end = a.label();
        a.mov(Reg::R6, Reg::R1);
        a.load(Size::Word, Reg::R1, Reg::R6, 16);
        a.jump_if(Cond::Ne, Reg::R1, 8, end);
        a.store(Size::Byte, Reg::R10, -96, 0x45);
        a.store(Size::Half, Reg::R10, -8, Reg::R3);
        a.big_endian(Reg::R2, 16);
        a.alu(Alu::Rsh, Reg::R2, 29);
        a.imm64(Reg::R4, 0x1122_3344_5566_7788);
        a.map(Reg::R1, MapFd(5));
        a.call(Helper::MapLookup);
        a.atomic_add(Reg::R1, 16, Reg::R7);
        a.bind(end);
        a.exit();
        let code: Vec<_> = a.finish().unwrap().into_iter().map(bytes).collect();
        assert_eq!(
            code,
            [
                [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
                [0x61, 0x61, 16, 0, 0, 0, 0, 0],
                [0x55, 0x01, 10, 0, 8, 0, 0, 0],
                [0x72, 0x0a, 0xa0, 0xff, 0x45, 0, 0, 0],
                [0x6b, 0x3a, 0xf8, 0xff, 0, 0, 0, 0],
                [0xdc, 0x02, 0, 0, 16, 0, 0, 0],
                [0x77, 0x02, 0, 0, 29, 0, 0, 0],
                [0x18, 0x04, 0, 0, 0x88, 0x77, 0x66, 0x55],
                [0x00, 0x00, 0, 0, 0x44, 0x33, 0x22, 0x11],
                [0x18, 0x11, 0, 0, 5, 0, 0, 0],
                [0x00, 0x00, 0, 0, 0, 0, 0, 0],
                [0x85, 0x00, 0, 0, 1, 0, 0, 0],
                [0xdb, 0x71, 16, 0, 0, 0, 0, 0],
                [0x95, 0x00, 0, 0, 0, 0, 0, 0],
            ]
        );
    }

    #[test]
    fn backward_jumps_count_from_the_next_instruction() {
        let mut a = Asm::default();
        let again = a.label();
        a.bind(again);
        a.mov(Reg::R0, 0);
        a.jump(again);
        assert_eq!(a.finish().unwrap()[1].offset, -2);
    }

    #[test]
    fn mistakes_in_programs_are_errors() {
        let mut a = Asm::default();
        let nowhere = a.label();
        a.jump(nowhere);
        assert_eq!(a.finish(), Err(AsmError::Unbound(0)));
        let mut a = Asm::default();
        let far = a.label();
        a.jump(far);
        for _ in 0..40_000 {
            a.mov(Reg::R0, 0);
        }
        a.bind(far);
        assert_eq!(a.finish(), Err(AsmError::TooFar(0)));
    }
}
