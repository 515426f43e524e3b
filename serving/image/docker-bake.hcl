# `make images`: both images, tagged for where they are pushed.
#   REPOSITORY=registry.example.com/endcap make images ARGS=--push
# images.json, beside this file, names the base image, with the digest that `make pin` resolved.

variable "REPOSITORY" { default = "endcap" }
variable "VERSION" { default = "" }
variable "REVISION" { default = "" }

# A lock for the CPU alone, and the name of PyTorch's index that it was resolved from: see docs/images.md.
variable "LOCK" { default = "requirements.txt" }
variable "TORCH_BACKEND" { default = "" }

group "default" { targets = ["endcap", "client"] }

target "endcap" {
  context    = "."
  dockerfile = "serving/image/Dockerfile"
  target     = "endcap"
  tags       = ["${REPOSITORY}:${VERSION}"]
  args = {
    BASE          = BASE
    LOCK          = LOCK
    TORCH_BACKEND = TORCH_BACKEND
    VERSION       = VERSION
    REVISION      = REVISION
  }
  labels = { "org.opencontainers.image.base.name" = BASE }
  # A private index: UV_TOML=uv.toml make images
  secret = UV_TOML == "" ? [] : ["id=uv,src=${UV_TOML}"]
}

variable "UV_TOML" { default = "" }

target "client" {
  inherits = ["endcap"]
  target   = "client"
  tags     = ["${REPOSITORY}-client:${VERSION}"]
}
