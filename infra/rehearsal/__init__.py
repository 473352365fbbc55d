"""A rehearsal of a deploy without a cloud: the real terraform, the provider's real schema, a make-believe cloud.

`schema` reads the provider's schema out of its CDKTF binding, `plan` and `cloud` say what a provider answers,
`provider` says it over Terraform's plugin protocol, and `rehearse` runs terraform over synthesized stacks:
init, plan, apply, a second plan that must be empty, destroy.

Caught: misspelled or missing arguments and blocks, wrong types, too many blocks, unknown types, read-only
arguments, documented enumerations, bad references, cycles, missing outputs of other stacks, duplicate names,
destruction of what is protected, a second plan that is not empty, objects left behind.

Not caught, since the binding does not carry it: arguments that exclude one another, patterns and lengths, most
defaults, most arguments that force a new object (`plan.FORCE_NEW` lists those that matter here), quotas,
permissions, disabled APIs, eventual consistency, what the API writes back in another form.
"""
