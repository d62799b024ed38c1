# Trampolines of the CUDA driver's functions, System V x86-64.
#
# `checked NAME` and `direct NAME` each define a hidden function NAME and its slot in cuda_slots, in the order in which
# the names come. A slot holds the address of the driver's function, or 0 until the first call.

.section .bss.cuda_slots, "aw", %nobits
.balign 8
.globl cuda_slots
.hidden cuda_slots
cuda_slots:
.text

# Defines the function's symbol and loads its slot; falls through with the driver's function in r11.
.macro enter name
    .pushsection .bss.cuda_slots, "aw", %nobits
    slot_of_\name: .zero 8
    .popsection
    .balign 16
    .globl \name
    .hidden \name
    .type \name, @function
\name:
    .cfi_startproc
    movq slot_of_\name(%rip), %r11
    testq %r11, %r11
    jne 1f
    leaq slot_of_\name(%rip), %r11
    callq cuda_fill_slot
1:
.endm

# Calls the function and lets cuda_filter see any code but 0. The 8 bytes align the stack.
.macro checked name
    enter \name
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    callq *%r11
    testl %eax, %eax
    je 2f
    movl %eax, %edi
    callq {filter}
2:
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    retq
    .cfi_endproc
    .size \name, . - \name
.endm

# Jumps to the function, whose arguments may lie on the stack.
.macro direct name
    enter \name
    jmpq *%r11
    .cfi_endproc
    .size \name, . - \name
.endm

# r11: a slot's address in, the driver's function out. Keeps every register that can hold an argument.
.type cuda_fill_slot, @function
cuda_fill_slot:
    .cfi_startproc
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rbp, -16
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %r8
    pushq %r9
    subq $128, %rsp
    andq $-16, %rsp
    movups %xmm0, 0(%rsp)
    movups %xmm1, 16(%rsp)
    movups %xmm2, 32(%rsp)
    movups %xmm3, 48(%rsp)
    movups %xmm4, 64(%rsp)
    movups %xmm5, 80(%rsp)
    movups %xmm6, 96(%rsp)
    movups %xmm7, 112(%rsp)
    movq %r11, %rdi
    callq {resolve}
    movq %rax, %r11
    movups 0(%rsp), %xmm0
    movups 16(%rsp), %xmm1
    movups 32(%rsp), %xmm2
    movups 48(%rsp), %xmm3
    movups 64(%rsp), %xmm4
    movups 80(%rsp), %xmm5
    movups 96(%rsp), %xmm6
    movups 112(%rsp), %xmm7
    leaq -48(%rbp), %rsp
    popq %r9
    popq %r8
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    popq %rbp
    .cfi_def_cfa %rsp, 8
    retq
    .cfi_endproc
    .size cuda_fill_slot, . - cuda_fill_slot
