"""Methods, by name. Importing this package loads neither torch nor a method."""

APB_BENCHMARK_PACKAGE = "methods"

METHODS: dict[str, str] = {
    "apb": "methods.apb:Apb",
    "apb-random": "methods.apb:ApbRandom",
    "apb-pre": "methods.apb:ApbPre",
    "apb-post": "methods.apb:ApbPost",
    "apb-none": "methods.apb:ApbNone",
    "apb-unfrozen": "methods.apb:ApbUnfrozen",
    "apb-reset": "methods.apb:ApbReset",
    "apb-evolve": "methods.apb:ApbEvolve",
    "apb-evolve-random": "methods.apb:ApbEvolveRandom",
    "finetune": "methods.finetune:Finetune",
    "context-td3": "methods.finetune:ContextTd3",
    "maml": "methods.maml:Maml",
    "maml-5": "methods.maml:MamlFive",
    "maml+ft": "methods.maml:MamlFinetuned",
    "cavia": "methods.cavia:Cavia",
    "cavia-5": "methods.cavia:CaviaFive",
    "cavia+ft": "methods.cavia:CaviaFinetuned",
    "pearl": "methods.pearl:Pearl",
    "pearl+ft": "methods.pearl:PearlFinetuned",
    "varibad": "methods.varibad:Varibad",
    "varibad+ft": "methods.varibad:VaribadFinetuned",
    "rl2": "methods.rl2:Rl2",
    "rl2+ft": "methods.rl2:Rl2Finetuned",
    "td3": "methods.td3:Td3",
    "td3-evolve": "methods.td3:Td3Evolve",
    "random": "methods.bounds:Random",
    "zero": "methods.bounds:Zero",
}
