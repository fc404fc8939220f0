/** The exported graph in onnxruntime-web, and its cache of keys and values. */

/** Keys and values of `rows` texts of `length` tokens each, laid out (layers, rows, heads, length, width). */
export class Cache {
  constructor(shape, rows, length, keys, values) {
    Object.assign(this, { shape, rows, length, keys, values });
  }

  static empty(shape, rows = 1) {
    return new Cache(shape, rows, 0, new Float32Array(0), new Float32Array(0));
  }

  /** The first `length` tokens of the chosen rows; a row may be taken more than once. */
  part(rows, length = this.length) {
    if (length === this.length && rows.length === this.rows && rows.every((row, place) => row === place)) return this;
    const { layers, heads, width } = this.shape;
    const taken = (from) => {
      const to = new Float32Array(layers * rows.length * heads * length * width);
      let place = 0;
      for (let layer = 0; layer < layers; layer++) {
        for (const row of rows) {
          for (let head = 0; head < heads; head++) {
            const start = ((layer * this.rows + row) * heads + head) * this.length * width;
            to.set(from.subarray(start, start + length * width), place);
            place += length * width;
          }
        }
      }
      return to;
    };
    return new Cache(this.shape, rows.length, length, taken(this.keys), taken(this.values));
  }
}

export class Network {
  /**
   * @param {object} ort the module onnxruntime-web.
   * @param {object} session an InferenceSession.
   * @param {object} shape layers, heads (of keys and values), width (of a head), context (tokens), vocabulary.
   */
  constructor(ort, session, shape) {
    Object.assign(this, { ort, session, shape });
  }

  /**
   * Loads the graph. With int8 its weights become floats here, once: left to itself the runtime would do it at every pass.
   */
  static async load(ort, graph, shape) {
    const session = await ort.InferenceSession.create(graph, {
      executionProviders: ["wasm"],
      extra: { session: { disable_quant_qdq: "1" } },
    });
    return new Network(ort, session, shape);
  }

  /**
   * Reads ids, as many for each row of the cache.
   *
   * @param {number[][]} ids (rows, new tokens), after those in the cache.
   * @returns {{logits: Float32Array[], cache: Cache}} logits after each row's last token, and the longer cache.
   */
  async read(ids, cache) {
    const { layers, heads, width, vocabulary } = this.shape;
    const [rows, count] = [ids.length, ids[0].length];
    const past = [layers, rows, heads, cache.length, width];
    const found = await this.session.run({
      ids: new this.ort.Tensor("int64", BigInt64Array.from(ids.flat(), BigInt), [rows, count]),
      past_keys: new this.ort.Tensor("float32", cache.keys, past),
      past_values: new this.ort.Tensor("float32", cache.values, past),
    });
    const all = found.logits.data;
    const logits = ids.map((_, row) => {
      const start = ((row + 1) * count - 1) * vocabulary;
      return all.subarray(start, start + vocabulary);
    });
    return { logits, cache: new Cache(this.shape, rows, cache.length + count, found.keys.data, found.values.data) };
  }
}

/** Log-probabilities of logits. */
export function logSoftmax(logits) {
  const total = logSumExp(logits);
  return Float64Array.from(logits, (value) => value - total);
}

/** log(sum(exp(values))), minus infinity for none. */
export function logSumExp(values) {
  let top = -Infinity;
  for (const value of values) if (value > top) top = value;
  if (top === -Infinity) return top;
  let sum = 0;
  for (const value of values) sum += Math.exp(value - top);
  return top + Math.log(sum);
}
