// What a script finds around it: the helpers of RavenDB's embeddings generation scripts, and nothing that could tell one
// run from another. Evaluated once per context; gives protect, run and tidy by their names. Nothing is cut here: helpers
// note what is wanted.
(function () {
  "use strict";

  const TEXTS_MAX = 100000;
  const CHARACTERS_MAX = 8000000;
  const { apply, construct, ownKeys, getPrototypeOf, getOwnPropertyDescriptor, defineProperty, isExtensible } = Reflect;
  const { parse, stringify } = JSON;
  const { freeze, keys: keysOf } = Object;
  const { isArray } = Array;
  const world = globalThis;
  const worldPrototype = getPrototypeOf(world);

  // Everything of the run that is on; emptied before each.
  let fields = new Map();
  let texts = 0;
  let characters = 0;

  function count(text) {
    texts += 1;
    characters += text.length;
    if (texts > TEXTS_MAX) throw new RangeError(`embeddings.generate was given more than ${TEXTS_MAX} texts.`);
    if (characters > CHARACTERS_MAX) {
      throw new RangeError(`embeddings.generate was given more than ${CHARACTERS_MAX} characters.`);
    }
  }

  function kind(value) {
    return value === null ? "null" : isArray(value) ? "an array" : typeof value;
  }

  function checkedPrefix(prefix) {
    if (typeof prefix !== "string" || prefix.trim() === "") {
      const what = typeof prefix === "string" ? "an empty text" : kind(prefix);
      throw new TypeError(`withContextPrefix takes a text that is not empty, not ${what}.`);
    }
    characters += prefix.length;
    return prefix;
  }

  // What a helper gives: texts, and how they are to be cut. `method` is null for texts that are cut as the task says.
  class Chunked {
    constructor(values, isList, method, max, overlap, prefix) {
      this.values = values;
      this.isList = isList;
      this.how = [method, max, overlap, prefix];
      freeze(this);
    }
    withContextPrefix(prefix) {
      return new Chunked(this.values, this.isList, this.how[0], this.how[1], this.how[2], checkedPrefix(prefix));
    }
  }
  Chunked.prototype.constructor = Object; // nobody else makes one

  function define(target, name, value) {
    defineProperty(target, name, { value, writable: true, enumerable: false, configurable: true });
  }
  define(String.prototype, "withContextPrefix", function withContextPrefix(prefix) {
    return new Chunked([String(this)], false, null, null, 0, checkedPrefix(prefix));
  });
  define(Array.prototype, "withContextPrefix", function withContextPrefix(prefix) {
    return new Chunked([...this], true, null, null, 0, checkedPrefix(prefix));
  });

  function wholeNumber(name, what, value, least) {
    if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > 2147483647) {
      const shown = typeof value === "number" ? value : kind(value);
      throw new TypeError(`${name}: ${what} must be a whole number, ${least} or more, not ${shown}.`);
    }
    return value;
  }

  function chunker(name, method, takesOverlap) {
    return function (...given) {
      if (given.length < 2 || given.length > (takesOverlap ? 3 : 2)) {
        throw new TypeError(`${name} takes ${takesOverlap ? "2 or 3" : "2"} arguments, not ${given.length}.`);
      }
      const isList = isArray(given[0]);
      for (const value of isList ? given[0] : [given[0]]) {
        if (typeof value !== "string" && value !== null && value !== undefined) {
          throw new TypeError(`${name} takes a text or an array of texts, and was given ${kind(value)}${isList ? " in it" : ""}.`);
        }
      }
      const max = wholeNumber(name, "the number of tokens", given[1], 1);
      const overlap = given[2] === undefined || given[2] === null ? 0 : wholeNumber(name, "the overlap", given[2], 0);
      if (overlap >= max) throw new RangeError(`${name}: the overlap of ${overlap} would fill a chunk of ${max} tokens.`);
      return new Chunked(isList ? [...given[0]] : [given[0]], isList, method, max, overlap, null);
    };
  }

  // A value as it stands when `generate` is called: what becomes of it later does not matter.
  function written(field, value) {
    switch (typeof value) {
      case "string":
      case "boolean":
        return value;
      case "number":
        if (!Number.isFinite(value)) throw new TypeError(`embeddings.generate: ${field} is ${value}.`);
        return value;
      case "bigint":
        return String(value);
      case "object": {
        const json = value instanceof RealDate ? value.toISOString() : stringify(value);
        if (typeof json === "string") return json;
      }
    }
    throw new TypeError(`embeddings.generate: ${field} is a ${typeof value}, not a text.`);
  }

  function generate(...given) {
    const [values] = given;
    if (given.length !== 1 || typeof values !== "object" || values === null || isArray(values) || values instanceof Chunked) {
      throw new TypeError("embeddings.generate takes one object: { Name: text, ... }.");
    }
    const group = { prefix: null };
    for (const field of keysOf(values)) {
      if (field === "" || field.length > 500) throw new TypeError("embeddings.generate: a name has 1 to 500 characters.");
      add(field, values[field], group);
    }
    return freeze({
      withContextPrefix(prefix) {
        group.prefix = checkedPrefix(prefix);
        return this;
      },
    });
  }

  function add(field, value, group) {
    if (value === null || value === undefined) return;
    if (!fields.has(field)) fields.set(field, { isList: false, found: [], at: 0 });
    const entry = fields.get(field);
    const isList = isArray(value) || (value instanceof Chunked && value.isList);
    entry.isList = entry.isList || isList || entry.at > 0;
    for (const item of isArray(value) ? value : [value]) {
      const chunked = item instanceof Chunked;
      for (const each of chunked ? item.values : [item]) {
        if (each !== null && each !== undefined) {
          const text = written(field, each);
          count(typeof text === "string" ? text : "");
          entry.found.push([entry.at, text, chunked ? item.how : null, group]);
        }
        entry.at += 1;
      }
    }
    entry.isList = entry.isList || entry.at > 1;
  }

  function collected() {
    const out = [];
    for (const [field, { isList, found }] of fields) {
      for (const [at, text, how, group] of found) {
        const [method, max, overlap, prefix] = how || [null, null, 0, null];
        out.push([isList ? `${field}[${at}]` : field, text, method, max, overlap, prefix || group.prefix]);
      }
    }
    return stringify(out);
  }

  // What differs from run to run is not there: vectors are a function of the document and the script.
  function refuse(what, instead) {
    return function () {
      throw new Error(`${what} cannot be used: the same document must give the same texts. ${instead}`);
    };
  }
  const RealDate = Date;
  const noNow = refuse("The current time", "Give new Date a time.");
  function Date_(...given) {
    if (new.target === undefined || given.length === 0) noNow();
    return construct(RealDate, given, new.target);
  }
  defineProperty(Date_, "name", { value: "Date" });
  Date_.prototype = RealDate.prototype;
  define(Date_.prototype, "constructor", Date_);
  for (const name of ["UTC", "parse"]) define(Date_, name, RealDate[name]);
  define(Date_, "now", noNow);
  define(world, "Date", Date_);
  define(Math, "random", refuse("Math.random", "Use what the document holds."));

  // Code from texts could declare global variables, which would outlive the run.
  const samples = [function () {}, function* () {}, async function () {}, async function* () {}];
  for (const sample of samples) {
    const prototype = getPrototypeOf(sample);
    const replaced = function Function() {
      throw new EvalError("Code cannot be made of texts in a script.");
    };
    replaced.prototype = prototype;
    defineProperty(prototype, "constructor", { value: replaced, writable: false, configurable: true });
    if (sample === samples[0]) define(world, "Function", replaced);
  }
  define(world, "eval", refuse("eval", "Write the code out."));

  const helpers = {
    embeddings: { generate },
    text: {
      split: chunker("text.split", "text", false),
      splitLines: chunker("text.splitLines", "lines", false),
      splitParagraphs: chunker("text.splitParagraphs", "paragraphs", true),
    },
    markdown: {
      splitLines: chunker("markdown.splitLines", "markdown-lines", false),
      splitParagraphs: chunker("markdown.splitParagraphs", "markdown", true),
    },
    html: { strip: chunker("html.strip", "html", false) },
  };
  for (const name of keysOf(helpers)) {
    defineProperty(world, name, {
      get: () => helpers[name],
      set() {
        throw new TypeError(`"${name}" is a helper and cannot be assigned: write "var ${name}".`);
      },
      enumerable: false,
      configurable: true,
    });
  }

  // Freezing an inherited property would forbid objects one of their own by that name; these are given one.
  const inherited = new Set([...ownKeys(Object.prototype), "name", "message", "toJSON", "then"]);
  function allowOwn(prototype, key, value) {
    defineProperty(prototype, key, {
      get: () => value,
      set(given) {
        if (this === prototype || this === null || typeof this !== "object" && typeof this !== "function") return;
        defineProperty(this, key, { value: given, writable: true, enumerable: true, configurable: true });
      },
      enumerable: false,
      configurable: true,
    });
  }

  function protectAll() {
    const iterators = [[][Symbol.iterator](), new Map().entries(), new Set().entries(), ""[Symbol.iterator](), "".matchAll(/x/g)];
    const thrower = (function () { return getOwnPropertyDescriptor(arguments, "callee").get; })();
    const pending = [world, Chunked, thrower, ...Object.values(helpers), ...samples, ...iterators];
    const seen = new Set([undefined, null]);
    while (pending.length) {
      const found = pending.pop();
      if (seen.has(found) || (typeof found !== "object" && typeof found !== "function")) continue;
      seen.add(found);
      pending.push(getPrototypeOf(found));
      const isPrototype = typeof found === "object" || found === Function.prototype;
      for (const key of ownKeys(found)) {
        const { value, get, set, writable, configurable } = getOwnPropertyDescriptor(found, key);
        pending.push(value, get, set);
        if (isPrototype && found !== world && writable && configurable && inherited.has(key)) {
          allowOwn(found, key, value);
          const made = getOwnPropertyDescriptor(found, key);
          pending.push(made.get, made.set);
        } else if (found === world) {
          // Not frozen: a script may use variables that it did not declare. They are taken away after the run.
          defineProperty(world, key, get || set ? { configurable: false } : { writable: false, configurable: false });
        }
      }
      if (found !== world) freeze(found);
    }
  }
  protectAll();
  const worldSize = ownKeys(world).length;

  // Whether nothing is left of a run that the next could see.
  function tidy() {
    fields = new Map();
    texts = 0;
    characters = 0;
    const names = ownKeys(world);
    for (let at = names.length; at > worldSize; ) {
      at -= 1;
      if (!Reflect.deleteProperty(world, names[at])) return false;
    }
    return isExtensible(world) && getPrototypeOf(world) === worldPrototype;
  }

  function protect(main) {
    if (typeof main !== "function") throw new SyntaxError("The braces of the script do not match.");
    freeze(main);
    freeze(main.prototype);
  }

  // Gives "+" or, where the context must not be used again, "-", and the texts as JSON.
  function run(main, json) {
    let out;
    let isTidy = false;
    try {
      apply(main, parse(json), []);
      out = collected();
    } catch (thrown) {
      // A stack is what errors have; of anything else, the value is said. Null is what the engine throws without memory.
      if (thrown === null || thrown instanceof Error || (typeof thrown === "object" && "stack" in thrown)) throw thrown;
      throw new Error(typeof thrown === "object" && "message" in thrown ? thrown.message : written("what was thrown", thrown));
    } finally {
      isTidy = tidy();
    }
    return (isTidy ? "+" : "-") + out;
  }

  const offered = { protect, run, tidy };
  return (name) => offered[name];
})();
