#!/bin/sh
# Takes out of a folder of installed packages what the image never uses.
# botocore's models of services other than S3 and those that sign in to it are 27 of 45 MB.
set -eu
cd "$1"
find botocore/data -mindepth 1 -maxdepth 1 -type d \
  ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} +
rm -rf bin .lock
