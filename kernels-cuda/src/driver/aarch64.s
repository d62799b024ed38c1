// Trampolines of the CUDA driver's functions, AAPCS64.
//
// `checked NAME` and `direct NAME` each define a hidden function NAME and its slot in cuda_slots, in the order in which
// the names come. A slot holds the address of the driver's function, or 0 until the first call.

.section .bss.cuda_slots, "aw", %nobits
.balign 8
.globl cuda_slots
.hidden cuda_slots
cuda_slots:
.text

// Defines the function's symbol and its slot.
.macro begin name
    .pushsection .bss.cuda_slots, "aw", %nobits
    slot_of_\name: .zero 8
    .popsection
    .balign 16
    .globl \name
    .hidden \name
    .type \name, %function
\name:
    .cfi_startproc
.endm

// Saves the frame and leaves the driver's function in x17.
.macro enter name
    stp x29, x30, [sp, #-16]!
    .cfi_def_cfa_offset 16
    .cfi_offset x29, -16
    .cfi_offset x30, -8
    mov x29, sp
    adrp x16, slot_of_\name
    add x16, x16, :lo12:slot_of_\name
    ldr x17, [x16]
    cbnz x17, 1f
    bl cuda_fill_slot
1:
.endm

.macro leave
    ldp x29, x30, [sp], #16
    .cfi_restore x29
    .cfi_restore x30
    .cfi_def_cfa_offset 0
.endm

// Calls the function and lets cuda_filter see any code but 0.
.macro checked name
    begin \name
    enter \name
    blr x17
    cbz w0, 2f
    bl {filter}
2:
    leave
    ret
    .cfi_endproc
    .size \name, . - \name
.endm

// Jumps to the function, whose arguments may lie on the stack.
.macro direct name
    begin \name
    enter \name
    leave
    br x17
    .cfi_endproc
    .size \name, . - \name
.endm

// x16: a slot's address in; x17: the driver's function out. Keeps every register that can hold an argument.
.type cuda_fill_slot, %function
cuda_fill_slot:
    .cfi_startproc
    stp x29, x30, [sp, #-224]!
    .cfi_def_cfa_offset 224
    .cfi_offset x29, -224
    .cfi_offset x30, -216
    mov x29, sp
    stp x0, x1, [sp, #16]
    stp x2, x3, [sp, #32]
    stp x4, x5, [sp, #48]
    stp x6, x7, [sp, #64]
    str x8, [sp, #80]
    stp q0, q1, [sp, #96]
    stp q2, q3, [sp, #128]
    stp q4, q5, [sp, #160]
    stp q6, q7, [sp, #192]
    mov x0, x16
    bl {resolve}
    mov x17, x0
    ldp x0, x1, [sp, #16]
    ldp x2, x3, [sp, #32]
    ldp x4, x5, [sp, #48]
    ldp x6, x7, [sp, #64]
    ldr x8, [sp, #80]
    ldp q0, q1, [sp, #96]
    ldp q2, q3, [sp, #128]
    ldp q4, q5, [sp, #160]
    ldp q6, q7, [sp, #192]
    ldp x29, x30, [sp], #224
    .cfi_restore x29
    .cfi_restore x30
    .cfi_def_cfa_offset 0
    ret
    .cfi_endproc
    .size cuda_fill_slot, . - cuda_fill_slot
